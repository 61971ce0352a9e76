//! What says where an injector of Istio is.

use serde::Deserialize;

use super::Metadata;

/// A MutatingWebhookConfiguration of Istio.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct WebhookConfiguration {
    pub(in crate::doctor) metadata: Metadata,
    pub(in crate::doctor) webhooks: Vec<Webhook>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(in crate::doctor) struct Webhook {
    pub(in crate::doctor) client_config: ClientConfig,
    pub(in crate::doctor) failure_policy: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct ClientConfig {
    pub(in crate::doctor) service: Option<Service>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Service {
    pub(in crate::doctor) name: String,
    pub(in crate::doctor) namespace: String,
}

/// An IstioCNI, from which the Sail operator makes Istio's CNI plugin.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct IstioCni {
    pub(in crate::doctor) metadata: Metadata,
}

/// An EndpointSlice.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct EndpointSlice {
    pub(in crate::doctor) endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Endpoint {
    pub(in crate::doctor) conditions: EndpointConditions,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct EndpointConditions {
    /// Absent means ready.
    pub(in crate::doctor) ready: Option<bool>,
}

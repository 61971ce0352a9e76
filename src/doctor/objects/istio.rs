//! What says where an injector of Istio is, and which pods are its.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use serde::Deserialize;
use serde_json::Value;

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
    pub(in crate::doctor) namespace_selector: LabelSelector,
    pub(in crate::doctor) object_selector: LabelSelector,
    pub(in crate::doctor) match_conditions: Vec<Value>,
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

// === impl Webhook ===

impl Webhook {
    /// Whether pods without labels are sent to it that are created in a namespace with these labels, unless a condition of its own spares them.
    pub(in crate::doctor) fn selects(&self, namespace: &BTreeMap<String, String>) -> bool {
        let matches = |selector: &LabelSelector, labels| {
            // one that cannot be read is none that an API server has taken
            let selector = Selector::try_from(selector.clone());
            selector.is_ok_and(|selector| selector.matches(labels))
        };
        matches(&self.namespace_selector, namespace)
            && matches(&self.object_selector, &BTreeMap::new())
    }
}

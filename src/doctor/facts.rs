//! What is known of a cluster. Everything that checks conclude, they conclude from this.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    cluster::{Seen, Trial, Unseen},
    objects::{
        AdmissionPolicy, Binding, ConfigMap, IstioCni, MeshNode, MultusPod, Node, NotFoundEvent,
        ProfileObject, Webhook, Workload,
    },
};
use crate::{
    mesh::{Namespace, Pod},
    multus::AttachmentDefinition,
    profile::{DefaultProfile, Profile},
};

/// The label of the agents' DaemonSet, and its name.
pub(super) const AGENT: &str = "mesh-optin-agent";

/// Most Events that are looked at.
pub(super) const MOST_EVENTS: usize = 500;

/// What is known of a cluster, each with why it is not known.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Nothing of mesh-optin is installed yet.
    pub(super) is_before: bool,
    /// The only namespace that is looked at.
    pub(super) scope: Option<String>,
    pub(super) version: String,
    /// The API server's clock, if it said it, and ours.
    pub(super) date: Option<Timestamp>,
    pub(super) here: Timestamp,
    pub(super) nodes: Seen<Vec<Node>>,
    pub(super) namespaces: Seen<Vec<Namespace>>,
    /// Those that have not ended.
    pub(super) pods: Seen<Vec<Pod>>,
    pub(super) daemon_sets: Seen<Vec<Workload>>,
    pub(super) controllers: Seen<Vec<Workload>>,
    pub(super) attachments: Seen<Vec<AttachmentDefinition>>,
    /// Events of Multus on pods whose attachment it has not found, at most [`MOST_EVENTS`].
    pub(super) not_found: Seen<Vec<NotFoundEvent>>,
    pub(super) profiles: Seen<Vec<ProfileObject>>,
    pub(super) mesh_nodes: Seen<Vec<MeshNode>>,
    /// Our CustomResourceDefinitions.
    pub(super) definitions: Seen<Vec<Value>>,
    /// The ConfigMap of Multus's daemon.
    pub(super) multus: Seen<ConfigMap>,
    /// The pods of Multus's DaemonSet.
    pub(super) multus_pods: Seen<Vec<MultusPod>>,
    pub(super) injectors: Seen<Vec<Injector>>,
    /// IstioCNIs of the Sail operator.
    pub(super) istio_cnis: Seen<Vec<IstioCni>>,
    /// Whether the policy is installed that adds the attachment to pods.
    pub(super) networks_policy: Seen<AdmissionPolicy>,
    pub(super) policies: Seen<Vec<AdmissionPolicy>>,
    pub(super) bindings: Seen<Vec<Binding>>,
    /// What becomes of an attachment that the policies forbid.
    pub(super) forbidden: Result<Trial, Unseen>,
    /// Whether whoever asks is exempt from the policies.
    pub(super) bypasses: Result<bool, Unseen>,
}

/// One of Istio's injectors.
#[derive(Debug, Clone)]
pub(super) struct Injector {
    pub(super) revision: String,
    /// Where its control plane runs; empty where that is outside of the cluster.
    pub(super) namespace: String,
    /// The services that its webhooks name.
    pub(super) services: Vec<InjectorService>,
    /// Its webhooks, each with the MutatingWebhookConfiguration that has it.
    pub(super) webhooks: Vec<(String, Webhook)>,
    /// Its configuration.
    pub(super) config: Seen<ConfigMap>,
}

/// A service that answers an injector's webhooks.
#[derive(Debug, Clone)]
pub(super) struct InjectorService {
    pub(super) name: String,
    /// How many of its endpoints are ready.
    pub(super) ready: Seen<usize>,
}

// === impl Facts ===

impl Facts {
    /// The time of the cluster.
    pub(super) fn now(&self) -> Timestamp {
        self.date.unwrap_or(self.here)
    }

    /// Why anything is not known.
    pub(super) fn unseen(&self) -> Vec<&Unseen> {
        let all = [
            self.nodes.as_ref().err(),
            self.namespaces.as_ref().err(),
            self.pods.as_ref().err(),
            self.daemon_sets.as_ref().err(),
            self.controllers.as_ref().err(),
            self.attachments.as_ref().err(),
            self.not_found.as_ref().err(),
            self.profiles.as_ref().err(),
            self.mesh_nodes.as_ref().err(),
            self.definitions.as_ref().err(),
            self.multus.as_ref().err(),
            self.multus_pods.as_ref().err(),
            self.injectors.as_ref().err(),
            self.istio_cnis.as_ref().err(),
            self.policies.as_ref().err(),
            self.bindings.as_ref().err(),
        ];
        let injectors = self.injectors.iter().flatten().flatten();
        let configs = injectors
            .flat_map(|i| {
                let ready = i
                    .services
                    .iter()
                    .map(|service| service.ready.as_ref().err());
                ready.chain([i.config.as_ref().err()])
            })
            .flatten();
        all.into_iter().flatten().chain(configs).collect()
    }

    /// The DaemonSet of the agents.
    pub(super) fn agents(daemon_sets: &[Workload]) -> Option<&Workload> {
        daemon_sets.iter().find(|d| d.is_ours(AGENT))
    }

    /// A flag of the agents; `None` where it is not given.
    pub(super) fn agent_flag<'a>(daemon_sets: &'a [Workload], flag: &'a str) -> Option<&'a str> {
        let containers = Self::agents(daemon_sets)?.containers();
        containers.iter().find_map(|c| c.flag(flag))
    }

    /// What agents do without a MeshProfile; an error where it is no word that this version knows.
    pub(super) fn default_profile(daemon_sets: &[Workload]) -> Result<DefaultProfile, String> {
        let flag = Self::agent_flag(daemon_sets, "--default-profile");
        flag.map_or(Ok(DefaultProfile::default()), str::parse)
    }

    /// The DaemonSet of Multus.
    pub(super) fn multus(daemon_sets: &[Workload]) -> Option<&Workload> {
        daemon_sets.iter().find(|d| {
            d.containers().iter().any(|c| {
                let is_named = c.name.starts_with("kube-") && c.name.ends_with("multus");
                is_named || c.image.contains("multus-cni")
            })
        })
    }

    /// The profiles that decide: the built-in one where there is none.
    pub(super) fn deciding(profiles: &[ProfileObject]) -> Vec<Profile> {
        if profiles.is_empty() {
            return vec![Profile::built_in()];
        }
        profiles.iter().map(|p| p.profile.clone()).collect()
    }
}

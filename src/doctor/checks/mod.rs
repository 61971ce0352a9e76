//! The checks: each a pure function of the facts.

mod admission;
mod agents;
mod definitions;
mod istio;
mod kubernetes;
mod leftovers;
mod multus;
mod pods;
mod profiles;

use super::{facts::Facts, finding::Looked, objects::MeshNode};
use crate::{reason::names, words::words};

words! {
    /// What is checked. Scripts rely on these words.
    pub(super) enum Check("check") {
        ApiReachable = "ApiReachable",
        KubernetesVersion = "KubernetesVersion",
        Permissions = "Permissions",
        ClockSkew = "ClockSkew",
        MultusInstalled = "MultusInstalled",
        MultusVersion = "MultusVersion",
        MultusBinDir = "MultusBinDir",
        MultusConfDir = "MultusConfDir",
        MultusMemory = "MultusMemory",
        NamespaceIsolation = "NamespaceIsolation",
        OtherCniInstalled = "OtherCniInstalled",
        AmbientInUse = "AmbientInUse",
        InjectorProvider = "InjectorProvider",
        InjectorHealthy = "InjectorHealthy",
        NodeKernel = "NodeKernel",
        AgentsReady = "AgentsReady",
        VersionSkew = "VersionSkew",
        HostCredential = "HostCredential",
        ProfilesAccepted = "ProfilesAccepted",
        DefaultProfile = "DefaultProfile",
        Attachments = "Attachments",
        AdmissionInForce = "AdmissionInForce",
        InjectedWithoutAttachment = "InjectedWithoutAttachment",
        PodsRedirected = "PodsRedirected",
        OptOuts = "OptOuts",
        Leftovers = "Leftovers",
    }
}

impl Check {
    /// What it makes sure of.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::ApiReachable => "the API server answers",
            Self::KubernetesVersion => "Kubernetes is new enough",
            Self::Permissions => "everything may be looked at",
            Self::ClockSkew => "this machine's clock is the API server's",
            Self::MultusInstalled => "Multus is installed",
            Self::MultusVersion => "Multus is new enough",
            Self::MultusBinDir => "Multus looks for plugins where agents put the program",
            Self::MultusConfDir => "Multus looks for configurations where agents put them",
            Self::MultusMemory => "Multus has enough memory for the pods of its nodes",
            Self::NamespaceIsolation => "pods may name the shared attachment",
            Self::OtherCniInstalled => "no other CNI plugin redirects",
            Self::AmbientInUse => "ambient mode has what it needs",
            Self::InjectorProvider => "Istio's injector leaves the redirection to Multus",
            Self::InjectorHealthy => "Istio's injector answers, and no pod is created without it",
            Self::NodeKernel => "kernels are new enough",
            Self::AgentsReady => "each node has an agent that is ready",
            Self::VersionSkew => "versions fit together",
            Self::HostCredential => "credentials on nodes are valid, where they are asked for",
            Self::ProfilesAccepted => "MeshProfiles govern the mesh's namespaces",
            Self::DefaultProfile => "what governs without a MeshProfile is defined",
            Self::Attachments => "attachments are where pods look for them",
            Self::AdmissionInForce => "admission policies are in force",
            Self::InjectedWithoutAttachment => "pods with a sidecar name the attachment",
            Self::PodsRedirected => "pods are redirected as they should be",
            Self::OptOuts => "no pod of the mesh's namespaces opts out",
            Self::Leftovers => "no attachment of another installation is left",
        }
    }

    /// Whether it says something before mesh-optin is installed.
    pub(super) const fn is_before(self) -> bool {
        match self {
            Self::ApiReachable
            | Self::KubernetesVersion
            | Self::Permissions
            | Self::ClockSkew
            | Self::MultusInstalled
            | Self::MultusVersion
            | Self::MultusConfDir
            | Self::MultusMemory
            | Self::NamespaceIsolation
            | Self::OtherCniInstalled
            | Self::AmbientInUse
            | Self::InjectorProvider
            | Self::InjectorHealthy
            | Self::NodeKernel => true,
            Self::MultusBinDir
            | Self::AgentsReady
            | Self::VersionSkew
            | Self::HostCredential
            | Self::ProfilesAccepted
            | Self::DefaultProfile
            | Self::Attachments
            | Self::AdmissionInForce
            | Self::InjectedWithoutAttachment
            | Self::PodsRedirected
            | Self::OptOuts
            | Self::Leftovers => false,
        }
    }

    /// Looks at the facts.
    pub(super) fn look(self, facts: &Facts) -> Looked {
        let mut looked = Looked::default();
        let look: fn(&Facts, &mut Looked) = match self {
            Self::ApiReachable => |_, _| {}, // otherwise there would be no facts
            Self::KubernetesVersion => kubernetes::version,
            Self::Permissions => kubernetes::permissions,
            Self::ClockSkew => kubernetes::clock,
            Self::MultusInstalled => multus::installed,
            Self::MultusVersion => multus::version,
            Self::MultusBinDir => multus::bin_dir,
            Self::MultusConfDir => multus::conf_dir,
            Self::MultusMemory => multus::memory,
            Self::NamespaceIsolation => multus::isolation,
            Self::OtherCniInstalled => istio::other_cni,
            Self::AmbientInUse => istio::ambient,
            Self::InjectorProvider => istio::provider,
            Self::InjectorHealthy => istio::answers,
            Self::NodeKernel => agents::kernels,
            Self::AgentsReady => agents::ready,
            Self::VersionSkew => agents::versions,
            Self::HostCredential => agents::credentials,
            Self::ProfilesAccepted => profiles::accepted,
            Self::DefaultProfile => profiles::default_profile,
            Self::Attachments => profiles::attachments,
            Self::AdmissionInForce => admission::in_force,
            Self::InjectedWithoutAttachment => pods::without_attachment,
            Self::PodsRedirected => pods::redirected,
            Self::OptOuts => pods::opted_out,
            Self::Leftovers => leftovers::attachments,
        };
        look(facts, &mut looked);
        looked
    }
}

/// Says of which nodes a condition is neither True nor False.
fn unknown_conditions(looked: &mut Looked, nodes: &[MeshNode], kind: &str) {
    let is_unknown = |node: &&MeshNode| !["True", "False"].contains(&node.condition(kind).0);
    let unknown = nodes.iter().filter(is_unknown);
    let unknown: Vec<_> = unknown.map(|node| &node.metadata.name).collect();
    if !unknown.is_empty() {
        looked.not_said(format!(
            "{kind} is not known yet on nodes {}",
            names(&unknown)
        ));
    }
}

/// The first numbers of a version, such as 4 and 3 of v4.3.0-rc.1 and 5 and 14 of 5.14.0-70.el9; `None` where it has not two.
fn numbers(version: &str) -> Option<(u64, u64)> {
    let mut parts = version
        .trim_start_matches('v')
        .split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next()?.parse().ok()?))
}

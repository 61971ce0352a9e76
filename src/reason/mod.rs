//! Every reason that mesh-optin gives: its stable code, what it means, what to do about it and its CNI error code.
//!
//! Codes are public: they are the Event reason, the metric label and the field `reason` of `explain -o json`.

mod explanation;

use std::{borrow::Cow, fmt, str::FromStr};

#[cfg(any(feature = "controller", feature = "kubectl"))]
pub(crate) use self::explanation::names;
pub use self::explanation::{Explanation, is_unshowable, quote};

macro_rules! reasons {
    ($($name:ident = $code:literal, $sentence:literal, $remedy:expr;)*) => {
        /// Why something was done, not done or refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $(#[doc = $sentence] $name,)* }

        impl Reason {
            /// All reasons, in the order in which they are decided.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable PascalCase code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What it means, as a sentence without its full stop.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }

            /// What someone can do about it; `None` where nothing needs doing.
            pub const fn remedy(self) -> Option<&'static str> {
                match self { $(Self::$name => $remedy,)* }
            }

            /// The CNI error code when an ADD or CHECK fails with it: 4 to 11 are the CNI specification's, from 100 on ours.
            pub const fn cni_code(self) -> u32 {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

reasons! {
    // 1. the request
    NotAPod = 100, "CNI_ARGS names no pod", None;
    InvalidRequest = 4, "the call does not follow the CNI specification", Some("check the container runtime's and Multus's versions");
    InvalidAttachment = 7, "the network attachment's meshOptin settings are not valid", Some("correct the NetworkAttachmentDefinition");
    NodeConfigInvalid = 101, "a configuration file of this node is not valid", Some("ask the platform admin to correct it");
    NetnsInvalid = 8, "CNI_NETNS is not a network namespace", Some("check the container runtime");
    HostNetns = 8, "CNI_NETNS is the host's own network namespace", Some("check the container runtime: the host must never be redirected");
    TooManyAttachments = 134, "the pod references more than 8 attachments of type mesh-optin", Some("reference one in k8s.v1.cni.cncf.io/networks");
    // 2. the look-up
    NoSource = 102, "this node has no source to look up the pod", Some("run the node agent, or install an API credential in /var/lib/mesh-optin/api");
    AgentUnavailable = 11, "the node agent does not answer", Some("check the mesh-optin agent on this node");
    ApiUnreachable = 11, "the API server cannot be reached", Some("check the API server and the address in /var/lib/mesh-optin/api/server");
    ApiForbidden = 11, "the API server forbids the look-up", Some("allow the service account of /var/lib/mesh-optin/api/token to get pods and namespaces");
    ApiUnauthorized = 11, "the API server and this node's credential do not accept each other", Some("renew the credential in /var/lib/mesh-optin/api");
    DeadlineExceeded = 11, "there was no answer in time", Some("check the load of the API server and of this node");
    PodNotFound = 11, "the pod does not exist, or no longer exists", None;
    PodUidMismatch = 11, "the call is for an earlier pod of the same name", None;
    WrongNode = 103, "the pod is bound to another node", Some("correct nodeName in /etc/mesh-optin/node.yaml");
    UnknownProfile = 104, "there is no such MeshProfile on this node", Some("ask the platform admin for a MeshProfile that governs the namespace");
    AmbiguousProfile = 105, "more than one MeshProfile governs the namespace", Some("ask the platform admin to make the namespace selectors disjoint");
    ProfileNotAllowed = 106, "the MeshProfile does not govern the pod's namespace", Some("leave meshOptin.profile out, or ask the platform admin");
    // 3. the decision
    OptOutNotAllowed = 135, "the profile does not let pods of the namespace opt out of the mesh", Some("remove the opt-out, or ask the platform admin");
    Suspended = 136, "the profile is suspended: new pods are left alone", Some("ask the platform admin; recreate the pod when the profile is no longer suspended");
    NamespaceExcluded = 107, "the profile excludes the namespace", None;
    HostNetwork = 108, "the pod uses the host's network", None;
    InitContainerRedirects = 109, "the init container istio-init sets the redirection up itself", None;
    OptedOut = 110, "the pod sets sidecar.istio.io/inject: false", None;
    ProxyDisabled = 111, "the sidecar runs without Envoy (DISABLE_ENVOY)", None;
    NoSidecar = 112, "the pod was injected with a template that has no istio-proxy", None;
    NotEnrolled = 113, "neither the namespace nor the pod is enrolled in the mesh", Some("label the namespace istio-injection=enabled, or the pod sidecar.istio.io/inject=true, if it should be");
    SidecarMissing = 114, "the pod should be in the mesh but has no sidecar", Some("check that the sidecar injector is running, then delete the pod so that it is recreated");
    NotASidecarProxy = 115, "the proxy is a gateway or waypoint, not a sidecar", None;
    OptOutAfterInjection = 137, "the pod opts out of the mesh, but its sidecar was built to redirect", Some("set the opt-out in the workload's template, then delete this pod");
    NotInjected = 116, "istio-proxy was written by hand, not by the injector", Some("remove the container and let the injector add it, if the pod should be in the mesh");
    UnenrolledSidecar = 117, "the pod has a sidecar, but neither the pod nor its namespace is enrolled", Some("label the namespace istio-injection=enabled, or the pod sidecar.istio.io/inject=true");
    RevisionMismatch = 118, "the sidecar belongs to a revision that the profile does not allow", Some("let a control plane of an allowed revision inject the pod");
    InterceptionNone = 119, "the pod sets sidecar.istio.io/interceptionMode: NONE", None;
    ProxyIdentityShared = 138, "another container runs as the sidecar's user or group", Some("run it as another user and group");
    OverrideNotAllowed = 120, "the profile does not let tenants set this", Some("remove the setting, or ask the platform admin to list it in tenants.mayOverride");
    InvalidAnnotation = 121, "an annotation has a value that cannot be programmed", Some("correct the annotation and recreate the pod");
    // 4. applying
    NoPrimaryInterface = 122, "eth0 is missing or has no global address", Some("reference the attachment in k8s.v1.cni.cncf.io/networks, never as the default network");
    NotSupported = 123, "this version cannot do what the pod asks for", Some("run the pod with a runtime that uses the network namespaces of the node, if it should be in the mesh");
    KernelUnsupported = 11, "this node's kernel lacks a required feature", Some("load nf_tables and nft_redir, run Linux 5.14 or later, or choose backend Iptables in the profile");
    IptablesMissing = 11, "this node has no working iptables", Some("install iptables on the node, or choose backend Nftables in the profile");
    KernelRefused = 11, "the kernel refused the redirection", Some("see the node's kernel log");
    ConflictingAttachment = 124, "the pod's network namespace already carries another redirection", Some("reference only one attachment of type mesh-optin, or make their settings equal");
    Uninstalled = 125, "mesh-optin is being removed from this node", Some("schedule the pod to another node");
    Internal = 126, "mesh-optin failed unexpectedly", Some("report this with the node's log");
    Redirected = 127, "the pod's traffic is redirected to its sidecar", None;
    AlreadyRedirected = 128, "the redirection is already in place", None;
    // 5. found later
    Drifted = 129, "the redirection is no longer what it should be", Some("delete the pod so that it is recreated");
    Outdated = 130, "the redirection was made by another version, and stays until the pod is recreated", None;
    PolicyChanged = 139, "the pod is running, but the current profile would refuse it", Some("correct the pod or the profile before the pod is recreated");
    Bypassing = 131, "the pod should be redirected, but is not", Some("delete the pod so that it is recreated");
    Preempted = 133, "foreign rules come before the redirection", Some("find out whose they are, and remove them if they should not be there");
    FamilyNotCaptured = 132, "a captured interface has an address of a family that is not captured", Some("set ISTIO_DUAL_STACK on the sidecar, or ipFamilies: All in the profile");
}

impl Reason {
    /// Whether the pod's traffic is redirected.
    pub const fn is_redirected(self) -> bool {
        matches!(self, Self::Redirected | Self::AlreadyRedirected)
    }

    /// What an admin can do about a pod that stays out of the mesh by what its own text says; `None` where it does not.
    pub const fn remedy_of_opt_out(self) -> Option<&'static str> {
        if matches!(self, Self::InitContainerRedirects) {
            return Some(
                "set pilot.cni.enabled=true and pilot.cni.provider=multus for istiod, and recreate the pods",
            );
        }
        if matches!(
            self,
            Self::HostNetwork | Self::OptedOut | Self::ProxyDisabled | Self::InterceptionNone
        ) {
            return Some(
                "where that is not meant to be possible, set tenants.mayOptOut: false in a MeshProfile with a selector for the namespace",
            );
        }
        None
    }

    /// Whether an ADD that ends with it has changed something.
    pub const fn is_news(self) -> bool {
        matches!(self, Self::Redirected)
    }

    /// Whether an ADD can end with it.
    pub fn ends_an_add(self) -> bool {
        self < Self::Drifted || matches!(self, Self::Preempted)
    }

    /// Whether it says that who was asked could not tell, so that another source may.
    pub const fn is_no_answer(self) -> bool {
        matches!(
            self,
            Self::AgentUnavailable | Self::ApiUnreachable | Self::DeadlineExceeded
        )
    }

    /// This reason with what was found in the case at hand.
    pub fn because(self, cause: impl Into<String>) -> Explanation {
        Explanation {
            reason: self,
            cause: cause.into(),
            remedy: self.remedy().map(Cow::Borrowed),
        }
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(code: &str) -> Result<Self, String> {
        let reason = Self::ALL.iter().find(|r| r.as_str() == code);
        reason
            .copied()
            .ok_or_else(|| format!("{} is not a reason", quote(code)))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_names_are_pascal_case() {
        let mut seen = std::collections::BTreeSet::new();
        for r in Reason::ALL {
            assert!(seen.insert(r.as_str()), "{r} twice");
            assert_eq!(r.to_string().parse(), Ok(*r));
            assert!(
                r.as_str().chars().all(char::is_alphanumeric)
                    && r.as_str().starts_with(char::is_uppercase),
                "{r}"
            );
        }
        let ours: Vec<_> = Reason::ALL
            .iter()
            .map(|r| r.cni_code())
            .filter(|c| *c >= 100)
            .collect();
        let distinct: std::collections::BTreeSet<_> = ours.iter().collect();
        assert_eq!(ours.len(), distinct.len());
    }
}

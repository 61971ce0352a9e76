//! The words that a MeshProfile may choose from.

use crate::words::words;

words! {
    /// What enrolls a namespace or a pod.
    #[derive(Default)]
    pub enum EnrollmentMode("enrollment.mode") {
        /// Istio's labels on the namespace. In each mode a pod can also enroll itself.
        Istio = "Istio",
        /// `maistra.io/member-of` on the namespace (OpenShift Service Mesh 2).
        Maistra = "Maistra",
        /// Either of the two.
        #[default]
        Either = "Either",
        /// The profile's `namespaceSelector`.
        Selector = "Selector",
    }
}

words! {
    /// What happens to a pod that has a sidecar, where neither it nor its namespace is enrolled.
    #[derive(Default)]
    pub enum UnenrolledSidecar("enrollment.unenrolledSidecar") {
        /// It does not start.
        #[default]
        Refuse = "Refuse",
        /// It is redirected, with a Warning.
        Redirect = "Redirect",
    }
}

words! {
    /// What happens to a pod that asks for a sidecar and has none.
    #[derive(Default)]
    pub enum MissingSidecar("enrollment.missingSidecar") {
        /// It does not start.
        #[default]
        Refuse = "Refuse",
        /// It is left alone, with a Warning.
        Warn = "Warn",
    }
}

words! {
    /// What happens if tenants set what they may not.
    #[derive(Default)]
    pub enum NotAllowed("tenants.notAllowed") {
        /// The pod does not start.
        #[default]
        Refuse = "Refuse",
        /// The profile's values apply, with a Warning.
        Ignore = "Ignore",
    }
}

words! {
    /// What happens to a new pod in whose network namespace foreign rules decide before ours.
    #[derive(Default)]
    pub enum PreemptedPolicy("redirect.preempted") {
        /// It does not start.
        #[default]
        Refuse = "Refuse",
        /// It starts, with a Warning.
        Warn = "Warn",
    }
}

words! {
    /// Where NetworkAttachmentDefinitions are made.
    #[derive(Default)]
    pub enum Placement("attachment.placement") {
        /// In `default` only.
        #[default]
        Shared = "Shared",
        /// In every governed namespace and in `default`; needs a selector.
        PerNamespace = "PerNamespace",
        /// Nowhere: tenants write their own.
        None = "None",
    }
}

words! {
    /// What is done about a redirection that has changed.
    #[derive(Default)]
    pub enum DriftPolicy("drift") {
        /// It is reported.
        #[default]
        Report = "Report",
        /// It is reported and repaired.
        Repair = "Repair",
    }
}

words! {
    /// Which interfaces are captured.
    #[derive(Default)]
    pub enum Interfaces("redirect.interfaces") {
        /// Every interface that is not excluded.
        #[default]
        All = "All",
        /// eth0 and every interface that holds the main table's best default route of a family when the pod starts.
        Primary = "Primary",
    }
}

words! {
    /// Which address families are captured.
    #[derive(Default)]
    pub enum IpFamilies("redirect.ipFamilies") {
        /// IPv4; IPv6 if the sidecar serves both, or eth0 or the holder of a default route has only IPv6.
        #[default]
        Proxy = "Proxy",
        /// Both, always.
        All = "All",
    }
}

words! {
    /// What programs the rules.
    #[derive(Default)]
    pub enum BackendPolicy("redirect.backend") {
        /// nftables where the kernel has it, else iptables.
        #[default]
        Auto = "Auto",
        /// nf_tables over netlink.
        Nftables = "Nftables",
        /// iptables-restore.
        Iptables = "Iptables",
    }
}

words! {
    /// What the API server does about attachments that the plugin would refuse.
    #[derive(Default)]
    pub enum AttachmentsMode("admission.attachments") {
        /// It refuses them. There is no other mode: a policy that read profiles would refuse all attachments once their CRD is gone.
        #[default]
        Deny = "Deny",
    }
}

words! {
    /// What the API server does about pods with a sidecar that do not reference the attachment.
    #[derive(Default)]
    pub enum UnattachedPods("admission.unattachedPods") {
        /// It accepts them.
        Allow = "Allow",
        /// It accepts them with a warning to their author.
        #[default]
        Warn = "Warn",
        /// It refuses them.
        Deny = "Deny",
    }
}

words! {
    /// How the API server enforces what tenants may not do.
    #[derive(Default)]
    pub enum EnforcedMode("admission.enforced") {
        /// By a warning to the pod's author.
        Warn = "Warn",
        /// By a refusal.
        #[default]
        Deny = "Deny",
    }
}

words! {
    /// What governs where no profile exists.
    #[derive(Default)]
    pub enum DefaultProfile("defaultProfile") {
        /// The built-in profile, while the cluster does not have the kind MeshProfile and never had one on this node; then as Required.
        Auto = "Auto",
        /// The built-in profile, where the node has none at all.
        #[default]
        BuiltIn = "BuiltIn",
        /// Nothing: a profile must exist.
        Required = "Required",
    }
}

//! The words that a MeshProfile may choose from.

use serde::Deserialize;

/// `enrollment.mode`: what enrols a namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum EnrolmentMode {
    /// Istio's labels on the namespace or the pod.
    Istio,
    /// `maistra.io/member-of` on the namespace (OpenShift Service Mesh 2).
    Maistra,
    /// Either of the two.
    #[default]
    Either,
    /// The profile's `namespaceSelector`, whatever pods say.
    Selector,
}

/// `enrollment.unenrolledSidecar`: a pod has a sidecar but neither it nor its namespace is enrolled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum UnenrolledSidecar {
    #[default]
    Refuse,
    Redirect,
}

/// `enrollment.missingSidecar`: a pod asks for a sidecar and has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum MissingSidecar {
    #[default]
    Refuse,
    Warn,
}

/// `attachment.placement`: where NetworkAttachmentDefinitions are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Placement {
    /// In every governed namespace and in `default`.
    #[default]
    PerNamespace,
    /// In `default` only.
    Shared,
    /// Nowhere: tenants write their own.
    None,
}

/// `drift`: what is done about a redirection that changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DriftPolicy {
    #[default]
    Report,
    Repair,
}

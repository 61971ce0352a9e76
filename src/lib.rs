//! mesh-optin: a CNI plugin for Multus that redirects a pod's traffic to its Istio sidecar exactly when the pod opted in.
//!
//! Arrows go one way: `reason` <- `cni`, `mesh`; `mesh` <- `plan`, `node`; `plan` <- `kernel`; `node` <- `source`;
//! then `redirection`, `plugin`, `agent`; `cli` on top.
//! `cni`, `mesh` and `plan` are pure; `kernel` alone touches the kernel.

pub mod agent;
pub mod cli;
pub mod cni;
pub mod deadline;
pub mod kernel;
pub mod log;
pub mod mesh;
pub mod node;
pub mod plan;
pub mod plugin;
pub mod reason;
pub mod redirection;
pub mod source;

//! mesh-optin: a CNI plugin for Multus that redirects a pod's traffic to its Istio sidecar exactly when the pod opted in.
//!
//! `src/README.md` says what each module does, and which it may use.

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
pub mod words;

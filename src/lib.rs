//! mesh-optin: a CNI plugin for Multus that redirects a pod's traffic to its Istio sidecar exactly when the pod opted in.
#![doc = include_str!("README.md")]

pub mod agent;
pub mod cli;
pub mod cluster;
pub mod cni;
#[cfg(feature = "controller")]
pub mod controller;
pub mod deadline;
pub mod kernel;
pub mod log;
pub mod mesh;
pub mod multus;
pub mod node;
pub mod plan;
pub mod plugin;
pub mod reason;
pub mod redirection;
pub mod source;
pub mod telemetry;
pub mod words;

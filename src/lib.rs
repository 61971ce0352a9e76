//! mesh-optin: a CNI plugin for Multus that redirects a pod's traffic to its Istio sidecar exactly when the pod opted in.
#![doc = include_str!("README.md")]
// What is for nodes alone is left out elsewhere: people's laptops have other systems.

#[cfg(target_os = "linux")]
pub mod agent;
#[cfg(target_os = "linux")]
pub mod cli;
#[cfg(target_os = "linux")]
pub mod cluster;
pub mod cni;
#[cfg(all(feature = "controller", target_os = "linux"))]
pub mod controller;
pub mod deadline;
#[cfg(feature = "kubectl")]
pub mod doctor;
pub mod explain;
#[cfg(target_os = "linux")]
pub mod kernel;
pub mod log;
pub mod mesh;
pub mod multus;
#[cfg(target_os = "linux")]
pub mod node;
pub mod plan;
#[cfg(target_os = "linux")]
pub mod plugin;
pub mod profile;
pub mod reason;
#[cfg(target_os = "linux")]
pub mod redirection;
#[cfg(target_os = "linux")]
pub mod source;
#[cfg(target_os = "linux")]
pub mod telemetry;
pub mod terminal;
pub mod words;

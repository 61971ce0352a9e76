//! The program on a real kernel, in network and mount namespaces that end with each test. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says how much it tried"
)]

mod composing;
mod cost;
mod demo;
mod drift;
mod equivalence;
mod interfaces;
mod iptables;
mod iptables_programs;
mod killed;
mod lacking;
mod networks;
mod nftables;
mod plugin;
mod preempted;
mod process;
mod properties;
mod records;
mod redirection;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
mod tproxy;
mod trusted;
mod user_namespaces;
mod worked_examples;

//! What needs neither root nor a kernel: decisions, rules as text, the command line, and what holds the source together.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking; commands are run as processes"
)]

mod cli;
mod compat;
mod decisions;
mod imports;
mod kept;
mod lowered;
#[path = "../support/pure.rs"]
mod support;
mod texts;
mod words;
mod worked_examples;

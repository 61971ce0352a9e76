//! What needs neither root nor a kernel: decisions, rules as text, the command line, and what holds the source together.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking; commands are run as processes"
)]

mod admission;
mod cli;
mod compat;
mod complete;
#[cfg(feature = "schema")]
mod crd;
mod decisions;
mod dependencies;
mod documentation;
mod english;
mod imports;
mod in_the_field;
mod kept;
#[cfg(feature = "kubectl")]
mod kubectl;
mod lowered;
mod reason_compared;
mod reasons;
mod release;
#[path = "../support/pure.rs"]
mod support;
mod texts;
mod type_names;
mod words;
mod worked_examples;

/// The rest needs the schema and the other programs, which the node's program does not have.
#[cfg(not(all(feature = "schema", feature = "kubectl")))]
#[test]
fn the_tests_of_all_programs_ran() {
    panic!("run it as tests/run fast does, with --features controller,kubectl");
}

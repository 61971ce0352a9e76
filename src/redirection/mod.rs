//! The redirection of a pod's network namespace: created by ADD, verified by ADD, CHECK, `verify` and the audit. One path: read,
//! compare, apply, read back.

mod attempt;
mod converge;
mod lacking;
mod locate;
mod lock;
mod redirect;
mod self_test;
mod tools;
mod verify;
mod wanted;

pub use lacking::Unsupported;
pub use locate::{Located, locate};
pub use lock::lock_if_free;
pub use redirect::redirect;
pub use self_test::self_test;
pub use verify::{Findings, Verdict, repair, verify};
pub use wanted::{Done, Redirection};

//! A pod's redirection where it lives: made by ADD, verified by ADD, CHECK and `verify`. One path: read, compare, apply, read back.

mod attempt;
mod lock;
mod redirect;
mod tools;
mod verify;
mod wanted;

pub use lock::alone;
pub use redirect::{Done, redirect};
pub use verify::{Findings, repair, verify};
pub use wanted::{MOST_ATTACHMENTS, Redirection};

//! A pod's redirection where it lives: made by ADD, verified by ADD, CHECK and `verify`. One path: read, compare, apply, read back.

mod redirect;
mod tools;
mod verify;

pub use redirect::{Done, Redirection, redirect};
pub use verify::{Findings, verify};

//! The part of this folder that needs no root.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test program uses a part of it"
)]

pub mod data;
pub mod worked;

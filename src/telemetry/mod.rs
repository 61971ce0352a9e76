//! What a program that runs for long says of itself: probes and metrics over HTTP, Events, a heartbeat.

mod alive;
mod events;
mod http;
mod process;
mod text;

pub(crate) use self::{
    alive::Alive,
    events::{About, Delivered, Events, Journal, Wanted},
    http::{Observed, Paths, probe, serve, serve_socket},
    text::{Form, of_program},
};

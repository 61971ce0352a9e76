//! How a long-running program reports its state: probes and metrics over HTTP, Events, a heartbeat.

mod alive;
mod events;
mod http;
mod process;
mod text;

pub(crate) use self::{
    alive::Alive,
    events::{Delivered, Events, Journal, PodKey, WantedEvents},
    http::{Observed, Paths, probe, serve, serve_socket},
    text::{TextFormat, of_program},
};

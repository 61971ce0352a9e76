//! Logs one JSON line per event to stderr; stdout belongs to the CNI protocol.

use std::sync::OnceLock;

use tracing::Level;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, filter_fn},
    layer::SubscriberExt,
    registry, reload,
    util::SubscriberInitExt,
};

/// Changes the level.
type SetLevel = Box<dyn Fn(Level) + Send + Sync>;
static CHANGE: OnceLock<SetLevel> = OnceLock::new();

/// Starts logging. error: someone must act; warn: someone should know; info: one line per ADD; debug: why.
pub fn to_stderr(level: Level) {
    let log = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .log_internal_errors(false)
        .with_max_level(level)
        .with_writer(std::io::stderr);
    log.try_init().ok();
}

/// Starts logging for a long-running program, whose level may change. What the API client logs is left out: it may contain a response, even a
/// credential.
pub fn to_stderr_at_any_level(level: Level) {
    let log = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_target(false)
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_filter(filter_fn(|event| !event.target().starts_with("kube")));
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
    if registry().with(filter).with(log).try_init().is_ok() {
        let change = move |level| drop(handle.reload(LevelFilter::from_level(level)));
        CHANGE.set(Box::new(change)).ok();
    }
}

/// Changes the least severe level that is logged.
pub fn change(level: Level) {
    if let Some(change) = CHANGE.get() {
        change(level);
    }
}

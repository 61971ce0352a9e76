//! One line of JSON for each event, on stderr: the plugin's stdout is the protocol's.

/// Starts logging. error: someone must act; warn: someone should know; info: one line for each ADD; debug: why.
pub fn to_stderr(level: tracing::Level) {
    let log = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .log_internal_errors(false)
        .with_max_level(level)
        .with_writer(std::io::stderr);
    log.try_init().ok();
}

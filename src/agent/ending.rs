//! How the program is asked to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::reason::{Explanation, Reason};

/// Does what blocks, until SIGTERM or SIGINT, which the first process of a container gets only if it asks for them.
pub(super) fn run_until_signal(
    ended: Result<(), Explanation>,
    work: impl FnOnce() -> Result<(), Explanation> + Send + 'static,
) -> Result<(), Explanation> {
    let internal = |e: io::Error| Reason::Internal.because(e.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(internal)?;
    let done = runtime.block_on(async {
        let (mut end, mut interrupt) = ends().map_err(internal)?;
        tokio::select! {
            done = tokio::task::spawn_blocking(work) => done.unwrap_or_else(|e| Err(Reason::Internal.because(e.to_string()))),
            _ = end.recv() => ended,
            _ = interrupt.recv() => ended,
        }
    });
    runtime.shutdown_background(); // what blocks ends with the process
    done
}

/// SIGTERM and SIGINT.
pub(super) fn ends() -> io::Result<(Signal, Signal)> {
    let [end, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    Ok((end?, interrupt?))
}

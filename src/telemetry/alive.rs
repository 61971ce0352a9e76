//! A watchdog for the agent's event loop: if the loop stands still, the process ends, and kubelet restarts it. An exec probe would
//! start a process every few seconds instead.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tracing::error;

/// How often the loop beats.
const BEAT: Duration = Duration::from_secs(1);
/// The time without a beat after which the process ends, checked ten times. A process that was stopped as a whole beats again by the next check.
const DEAD: Duration = Duration::from_secs(60);
const LOOKS: u32 = 10;

/// The heartbeat of the agent's thread.
pub(crate) struct Alive(Arc<AtomicU64>);

impl Alive {
    /// Starts a watchdog that ends the process once the beats stop.
    pub(crate) fn watched() -> Self {
        Self::watched_for(DEAD, || {
            error!("the agent stands still: it ends");
            std::process::abort()
        })
    }

    fn watched_for(dead: Duration, end: impl FnOnce() + Send + 'static) -> Self {
        let beats = Arc::new(AtomicU64::new(0));
        let watched = beats.clone();
        let watch = move || {
            let (mut last, mut silent) = (watched.load(Ordering::Relaxed), 0);
            while silent < LOOKS {
                thread::sleep(dead / LOOKS);
                let now = watched.load(Ordering::Relaxed);
                silent = if now == last { silent + 1 } else { 0 };
                last = now;
            }
            end();
        };
        // without it the agent works all the same
        thread::Builder::new()
            .name("alive".into())
            .stack_size(64 << 10)
            .spawn(watch)
            .ok();
        Self(beats)
    }

    /// Beats until it is canceled.
    pub(crate) async fn beat(&self) {
        loop {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(BEAT).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_process_ends_once_the_heartbeat_stops() {
        let (ended, wait) = mpsc::channel();
        let alive = Alive::watched_for(Duration::from_secs(2), move || ended.send(()).unwrap());
        for _ in 0..240 {
            alive.0.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(10));
        }
        assert!(wait.try_recv().is_err());
        assert_eq!(wait.recv_timeout(Duration::from_secs(60)), Ok(()));
    }
}

//! The agent's permanent tasks, each with a name. If one ends, its work is no longer done: so the agent exits with an error that names the
//! task, and kubelet restarts it.

use std::pin::Pin;

use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::reason::{Explanation, Reason};

/// Tasks that run until the agent ends, on its one thread.
#[derive(Default)]
pub(super) struct Tasks<'a>(FuturesUnordered<Pin<Box<dyn Future<Output = &'static str> + 'a>>>);

impl<'a> Tasks<'a> {
    /// Adds a task, named by what it does.
    pub(super) fn add(&mut self, name: &'static str, task: impl Future<Output = ()> + 'a) {
        self.0.push(Box::pin(async move {
            task.await;
            name
        }));
    }

    /// Runs them all until one of them ends, which is an error.
    pub(super) async fn run(mut self) -> Explanation {
        let ended = self.0.next().await.unwrap_or("every task");
        Reason::Internal.because(format!("the agent no longer works: {ended} has ended"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_is_an_error_that_names_it() {
        let mut tasks = Tasks::default();
        tasks.add("watching", std::future::pending());
        tasks.add("reporting", tokio::time::sleep(Duration::from_secs(5)));
        tasks.add("sweeping", tokio::time::sleep(Duration::from_secs(9)));
        let ended = tasks.run().await;
        assert_eq!(ended.reason, Reason::Internal);
        assert!(ended.cause.ends_with("reporting has ended"), "{ended}");
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_run_until_they_are_canceled() {
        let mut tasks = Tasks::default();
        tasks.add("watching", std::future::pending());
        let an_hour = Duration::from_secs(3600);
        let ended = tokio::time::timeout(an_hour, tasks.run()).await;
        assert!(ended.is_err(), "{ended:?}");
    }
}

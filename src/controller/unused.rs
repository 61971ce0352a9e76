//! Attachments of ours that no profile wants: removed once no pod has named them for a day. Since when is written on them, so that a restart
//! does not forget it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{Api, ResourceExt, api::ListParams, core::PartialObjectMeta};
use tracing::info;

use super::{
    attachment::Present,
    failure::{Failure, within},
    step::{Ripe, Step, may_name, ripe_in, step},
    view::View,
    wanted::{Key, Owner},
    writes::Writes,
};

/// How often it is looked whether a pod names one.
const LOOK: Duration = Duration::from_secs(3600);
/// Most looks before everything else gets its turn.
const MOST: usize = 20;
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// When each was looked at last, by this process.
#[derive(Default)]
pub(super) struct Looks(HashMap<Key, Instant>);

impl Looks {
    /// Looks at those that are due; when the next is.
    pub(super) async fn look(
        &mut self,
        (writes, view): (&mut Writes, &View),
        unused: &[(Key, Present)],
        after: Duration,
    ) -> Result<Option<Duration>, Failure> {
        self.0.retain(|key, _| unused.iter().any(|(k, _)| k == key));
        let mut left = MOST;
        for (key, present) in unused {
            let is_due = self.due_in(key, present, after).is_zero() || writes.is_to_retry(key);
            if !is_due || !writes.may_try(key) {
                continue;
            }
            if left == 0 {
                return Ok(Some(Duration::ZERO));
            }
            left -= 1;
            self.look_at((writes, view), key, present, after).await?;
        }
        let untried = unused.iter().filter(|(key, _)| writes.may_try(key));
        let next = untried.map(|(key, present)| self.due_in(key, present, after));
        Ok(next.min())
    }

    fn due_in(&self, key: &Key, present: &Present, after: Duration) -> Duration {
        let looked = self.0.get(key).map(Instant::elapsed);
        due_in(looked, ripe_in(present, Timestamp::now(), after))
    }

    async fn look_at(
        &mut self,
        (writes, view): (&mut Writes, &View),
        key: &Key,
        present: &Present,
        after: Duration,
    ) -> Result<(), Failure> {
        let Some(owner @ Owner::Profile(_)) = &present.owner else {
            return Ok(());
        };
        writes.turn().await;
        let pods = Api::<PartialObjectMeta<Pod>>::namespaced(writes.client.clone(), &key.namespace);
        self.0.insert(key.clone(), Instant::now());
        let Key { namespace, name } = key;
        let pods = match within(pods.list(&ListParams::default())).await {
            Ok(pods) => pods,
            Err(Failure::Refused { why, .. }) => {
                let why = format!("the pods of namespace {namespace} cannot be listed: {why}");
                writes.refuse(key, Some(present), false, why);
                return Ok(());
            }
            Err(unavailable) => return Err(unavailable),
        };
        let is_named = pods.iter().any(|pod| {
            let networks = pod.annotations().get(NETWORKS);
            networks.is_some_and(|networks| may_name(networks, &key.name))
        });
        match step(present, is_named, Timestamp::now(), after) {
            Step::Wait => {
                writes.forget(key);
                Ok(())
            }
            Step::Mark => {
                let now = Timestamp::now().to_string();
                writes
                    .apply(view, (key, owner), Some(present), Some(&now))
                    .await
            }
            Step::Unmark => writes.unmark(view, key, present).await,
            Step::Remove => {
                info!(
                    "attachment {namespace}/{name} is removed: no profile wants it, and no pod names it"
                );
                writes.delete(view, key, present).await
            }
        }
    }
}

/// When an attachment is due for a check, from the time since its last check and the time until it may be removed.
fn due_in(looked: Option<Duration>, ripe: Option<Ripe>) -> Duration {
    let Some(looked) = looked else {
        return Duration::ZERO;
    };
    let regular = LOOK.saturating_sub(looked);
    match ripe {
        Some(Ripe::In(wait)) => regular.min(wait),
        // not again because of a mark that the last look has seen
        Some(Ripe::Since(since)) if looked > since => Duration::ZERO,
        Some(Ripe::Since(_)) | None => regular,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_makes_one_check_due() {
        let seconds = Duration::from_secs;
        for (looked, ripe, expected) in [
            (None, None, 0),
            (Some(10), None, 3590),
            (Some(10), Some(Ripe::In(seconds(20))), 20),
            (Some(10), Some(Ripe::Since(seconds(5))), 0),
            (Some(10), Some(Ripe::Since(seconds(4000))), 3590),
        ] {
            assert_eq!(
                due_in(looked.map(seconds), ripe),
                seconds(expected),
                "{looked:?} {ripe:?}"
            );
        }
    }
}

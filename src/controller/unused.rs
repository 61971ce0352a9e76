//! Attachments of ours that no profile wants: removed once no pod has named them for a day. Since when is written on them, so that a restart
//! does not forget it.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{Api, ResourceExt, api::ListParams, core::PartialObjectMeta};
use tracing::{info, warn};

use super::{
    attachment::Present,
    failure::Failure,
    refusals::Refusals,
    step::{Ripe, Step, named, ripe_in, step},
    view::View,
    wanted::{AttachmentOwner, ObjectKey},
    writes::Writes,
};

/// How often to check whether a pod names one.
const LOOK: Duration = Duration::from_secs(3600);
/// For how long what a look has found is acted upon.
const FRESH: Duration = Duration::from_secs(30);
/// The number of pods in a page of a list.
const PAGE: u32 = 500;

pub(super) struct Looks {
    /// When each was looked at last, by this process.
    last: HashMap<ObjectKey, Instant>,
    /// Where pods cannot be listed.
    refused: Refusals<()>,
}

impl Looks {
    pub(super) fn new() -> Self {
        Self {
            last: HashMap::new(),
            refused: Refusals::new(),
        }
    }

    /// Looks at those that are due, by one list of the cluster's pods: those of other namespaces may name them, too. When the next is due.
    pub(super) async fn look(
        &mut self,
        (writes, view): (&mut Writes, &View),
        unused: &[(ObjectKey, Present)],
        after: Duration,
    ) -> Result<Option<Duration>, Failure> {
        let pods = ObjectKey::new("", "pods");
        let keys: BTreeSet<_> = unused.iter().map(|(key, _)| key).collect();
        self.last.retain(|key, _| keys.contains(key));
        let is_due = |(key, present): &&(ObjectKey, Present)| {
            let is_due = self.due_in(key, present, after).is_zero() || writes.refused.has(key);
            is_due && writes.refused.may_try(key)
        };
        let due: Vec<_> = unused.iter().filter(is_due).collect();
        if !due.is_empty() && self.refused.may_try(&pods) {
            let asked = due.iter().map(|(key, _)| key.clone()).collect();
            let named = match list_named(writes, &asked).await {
                Ok(named) => named,
                Err(Failure::Refused { why, .. }) => {
                    if self.refused.add(&pods, (), false, why.clone()) {
                        warn!("no attachment is removed: pods cannot be listed: {why}");
                    }
                    return Ok(self.refused.next_try());
                }
                Err(failure @ (Failure::Unavailable(_) | Failure::NotHeld)) => return Err(failure),
            };
            self.refused.forget(&pods);
            let found = Instant::now();
            for (key, present) in due {
                if found.elapsed() > FRESH {
                    return Ok(Some(Duration::ZERO));
                }
                self.last.insert(key.clone(), Instant::now());
                act((writes, view), (key, present), named.contains(key), after).await?;
            }
        }
        let untried = unused.iter().filter(|(key, _)| writes.refused.may_try(key));
        let next = untried.map(|(key, present)| self.due_in(key, present, after));
        let refused = self.refused.next_try().unwrap_or_default();
        Ok(next.min().map(|next| next.max(refused)))
    }

    fn due_in(&self, key: &ObjectKey, present: &Present, after: Duration) -> Duration {
        let looked = self.last.get(key).map(Instant::elapsed);
        due_in(looked, ripe_in(present, Timestamp::now(), after))
    }
}

/// Those of these attachments that a pod names.
async fn list_named(
    writes: &mut Writes,
    asked: &BTreeSet<ObjectKey>,
) -> Result<BTreeSet<ObjectKey>, Failure> {
    let pods = Api::<PartialObjectMeta<Pod>>::all(writes.client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut found = BTreeSet::new();
    loop {
        let page = writes.send(pods.list(&params)).await?;
        for pod in &page {
            let namespace = pod.namespace().unwrap_or_default();
            found.extend(
                named(asked, &namespace, pod.annotations())
                    .into_iter()
                    .cloned(),
            );
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Does what is to be done about one.
async fn act(
    (writes, view): (&mut Writes, &View),
    (key, present): (&ObjectKey, &Present),
    is_named: bool,
    after: Duration,
) -> Result<(), Failure> {
    let Some(owner @ AttachmentOwner::Profile(_)) = &present.owner else {
        return Ok(());
    };
    match step(present, is_named, Timestamp::now(), after) {
        Step::Wait => {
            writes.refused.forget(key);
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
            let ObjectKey { namespace, name } = key;
            info!(
                "attachment {namespace}/{name} is removed: no profile wants it, and no pod names it"
            );
            writes.delete(view, key, present).await
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

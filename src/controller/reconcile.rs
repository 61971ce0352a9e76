//! The loop: what is known is compared with what there should be, and what differs is written.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use tracing::{debug, warn};

use super::{
    Args, Controller,
    attachment::Present,
    difference::{Difference, difference},
    events::Events,
    failure::Failure,
    objects::ProfileObject,
    pauses::{self, Pauses},
    refusals::Refusals,
    unused::Looks,
    wanted::{ObjectKey, Wanted, wanted},
    writes::Writes,
};
use crate::profile::{Placement, Profile};

/// Changes that come together are looked at together.
pub(super) const TOGETHER: Duration = Duration::from_millis(200);
/// Longest without a look.
pub(super) const IDLE: Duration = Duration::from_secs(300);
/// Most objects of a kind written before everything is looked at again: what should be may have changed.
const MOST: usize = 100;
/// Longest that one look writes attachments, or MeshNodes: those that are slow come last, and must not hold up what is new.
const LONGEST: Duration = Duration::from_secs(10);

/// How much of one kind of objects a look may still write.
pub(super) struct Turn {
    left: usize,
    started: Instant,
}

impl Turn {
    pub(super) fn new(started: Instant) -> Self {
        let left = MOST;
        Self { left, started }
    }

    /// Whether another object may be written now.
    pub(super) fn has_another(&mut self, now: Instant) -> bool {
        if self.left == 0 || now.duration_since(self.started) > LONGEST {
            return false;
        }
        self.left -= 1;
        true
    }
}

/// What is kept from one look to the next, besides what is in the cluster.
pub(super) struct Reconciler<'a> {
    pub(super) controller: &'a Controller,
    pub(super) args: &'a Args,
    pub(super) writes: Writes,
    pub(super) events: Events,
    looks: Looks,
    /// When the status of each profile was written.
    pub(super) written: HashMap<String, Instant>,
    /// Whose status was refused, and of which generation.
    pub(super) refused_profiles: Refusals<Option<i64>>,
    pub(super) refused_nodes: Refusals<()>,
    /// Whether the cluster had attachments at the last look.
    had_attachments: bool,
}

/// Reconciles until it is canceled.
pub(super) async fn reconcile(controller: &Arc<Controller>, client: Client, args: &Args) {
    let mut leads = controller.lease.changes();
    let mut reconciler = Reconciler {
        controller,
        args,
        writes: Writes::new(client.clone(), controller.lease.clone()),
        events: Events::new(client, &args.identity),
        looks: Looks::new(),
        written: HashMap::new(),
        refused_profiles: Refusals::new(),
        refused_nodes: Refusals::new(),
        had_attachments: true,
    };
    let mut pauses = Pauses::new();
    loop {
        leads.mark_unchanged();
        let started = Instant::now();
        let looked = reconciler.look().await;
        controller.metrics.reconciled(started.elapsed());
        let pause = match looked {
            Ok(pause) => {
                pauses.succeeded();
                pause
            }
            Err(Failure::NotHeld) => Duration::ZERO, // the next look finds so, too, and waits
            Err(Failure::Unavailable(why) | Failure::Refused { why, .. }) => {
                warn!("nothing can be written now: {why}");
                let (pause, _) = pauses.after_failure(Instant::now(), pauses::LONGEST);
                tokio::time::sleep(pause).await;
                Duration::ZERO
            }
        };
        tokio::select! {
            () = controller.view.wait_for_change() => tokio::time::sleep(TOGETHER).await,
            _ = leads.changed() => {}
            () = tokio::time::sleep(pause.clamp(TOGETHER, IDLE)) => {}
        }
    }
}

impl Reconciler<'_> {
    /// Looks at everything once. Returns for how long there is nothing more to do, if nothing changes.
    async fn look(&mut self) -> Result<Duration, Failure> {
        let view = &self.controller.view;
        let profiles = view.profiles.lock().objects.clone();
        let has_attachment =
            |object: &&ProfileObject| object.profile.spec.attachment.placement != Placement::None;
        let names: BTreeSet<_> = profiles
            .values()
            .filter(has_attachment)
            .map(|object| object.profile.spec.attachment.name.clone())
            .collect();
        view.follow_named(&names);
        let suspended = profiles
            .values()
            .filter(|object| object.profile.spec.suspended)
            .count();
        self.controller
            .metrics
            .suspended_profiles
            .set(i64::try_from(suspended).unwrap_or(i64::MAX));
        if let Some(what) = view.unknown() {
            debug!("{what} are not known yet");
            return Ok(IDLE);
        }
        let all: Vec<Profile> = profiles
            .values()
            .map(|object| object.profile.clone())
            .collect();
        let wanted = wanted(&all, &view.namespaces.lock().objects);
        let (mut present, mut found) = self.compare(&wanted);
        if self.controller.lease.left().is_zero() {
            return Ok(IDLE);
        }
        let written: BTreeSet<_> = (found.apply.iter().map(|(key, _)| key))
            .chain(&found.unmark)
            .chain(&found.unused)
            .cloned()
            .collect();
        self.writes
            .forget_but(|key| written.contains(key), &present);
        let has_attachments = view.has_attachments();
        if !std::mem::replace(&mut self.had_attachments, has_attachments) {
            self.writes.refused.retain(|_, _| false); // what was refused without the kind
        }
        if !has_attachments {
            (found.apply, found.unmark, found.unused) = Default::default();
        }
        let mut is_done = true;
        let refused = &self.writes.refused;
        let mut due: Vec<_> = found.apply.iter().collect();
        due.retain(|(key, _)| refused.may_try(key));
        due.sort_by_key(|(key, _)| refused.has(key));
        let started = Instant::now();
        let mut turn = Turn::new(started);
        for (key, owner) in &due {
            if !turn.has_another(Instant::now()) {
                is_done = false;
                break;
            }
            let seen = present.get(key);
            self.writes.apply(view, (key, owner), seen, None).await?;
        }
        if !due.is_empty() {
            (present, found) = self.compare(&wanted);
        }
        let marked: Vec<_> = found
            .unmark
            .iter()
            .filter(|key| self.writes.refused.may_try(key))
            .filter_map(|key| Some((key, present.get(key)?)))
            .collect();
        let mut turn = Turn::new(started);
        for (key, seen) in &marked {
            if !turn.has_another(Instant::now()) {
                is_done = false;
                break;
            }
            self.writes.unmark(view, key, seen).await?;
        }
        if !marked.is_empty() {
            (present, found) = self.compare(&wanted);
        }
        let mut pause = self.profiles(&profiles, &wanted, &found).await?;
        pause = pause.min(self.nodes().await?);
        let unused: Vec<_> = found
            .unused
            .iter()
            .filter_map(|key| Some((key.clone(), present.get(key)?.clone())))
            .collect();
        let next = self
            .looks
            .look((&mut self.writes, view), &unused, self.args.unused_after)
            .await?;
        pause = pause
            .min(next.unwrap_or(IDLE))
            .min(self.writes.refused.next_try().unwrap_or(IDLE));
        Ok(if is_done { pause } else { Duration::ZERO })
    }

    fn compare(&self, wanted: &Wanted) -> (BTreeMap<ObjectKey, Present>, Difference) {
        let present = self.controller.view.attachments();
        let found = difference(wanted, &present, |key| self.writes.refused.is_conflict(key));
        self.controller.metrics.attachments(found.states.values());
        (present, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_writes_at_most_100_objects_and_for_10_seconds() {
        let started = Instant::now();
        let mut turn = Turn::new(started);
        let written = (0..300).filter(|_| turn.has_another(started)).count();
        assert_eq!(written, 100);
        let mut turn = Turn::new(started);
        assert!(turn.has_another(started + Duration::from_secs(10)));
        assert!(!turn.has_another(started + Duration::from_millis(10_001)));
    }
}

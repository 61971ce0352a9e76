//! The loop: what is known is compared with what there should be, and what differs is written.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use kube::Client;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::{
    Args, Controller,
    attachment::Present,
    difference::{Difference, difference},
    events::Events,
    failure::Failure,
    objects::ProfileObject,
    unused::Looks,
    wanted::{Key, Wanted, wanted},
    writes::Writes,
};
use crate::mesh::{Placement, Profile};

/// Changes that come together are looked at together.
pub(super) const TOGETHER: Duration = Duration::from_millis(200);
/// Longest without a look.
pub(super) const IDLE: Duration = Duration::from_secs(300);
/// Most attachments written before everything is looked at again: what should be may have changed.
const MOST: usize = 100;
/// After a write that failed for all: the first pause, and the longest.
const AWAY: Duration = Duration::from_secs(1);
const AWAY_LONGEST: Duration = Duration::from_secs(30);

/// What is kept from one look to the next, besides what is in the cluster.
pub(super) struct Reconciler<'a> {
    pub(super) controller: &'a Controller,
    args: &'a Args,
    pub(super) writes: Writes,
    pub(super) events: Events,
    looks: Looks,
    /// When the status of each profile was written.
    pub(super) written: HashMap<String, Instant>,
}

/// Reconciles until it is cancelled.
pub(super) async fn reconcile(
    controller: &Arc<Controller>,
    client: Client,
    args: &Args,
    mut leads: watch::Receiver<bool>,
) {
    let mut reconciler = Reconciler {
        controller,
        args,
        writes: Writes::new(client.clone()),
        events: Events::new(client, &args.identity),
        looks: Looks::default(),
        written: HashMap::new(),
    };
    let mut away = AWAY;
    loop {
        let is_leader = *leads.borrow_and_update();
        controller.metrics.leader.set(is_leader.into());
        let started = Instant::now();
        let looked = reconciler.look(&leads).await;
        controller.metrics.reconciled(started.elapsed());
        let pause = match looked {
            Ok(pause) => {
                away = AWAY;
                pause
            }
            Err(Failure::Unavailable(why) | Failure::Refused { why, .. }) => {
                warn!("nothing can be written now: {why}");
                let pause = away.mul_f64(0.5 + fastrand::f64());
                away = (away * 2).min(AWAY_LONGEST);
                tokio::time::sleep(pause).await;
                Duration::ZERO
            }
        };
        tokio::select! {
            () = controller.view.changed() => tokio::time::sleep(TOGETHER).await,
            _ = leads.changed() => {}
            () = tokio::time::sleep(pause.clamp(TOGETHER, IDLE)) => {}
        }
    }
}

impl Reconciler<'_> {
    /// Looks at everything once; how long nothing more is to be done, if nothing changes.
    async fn look(&mut self, leads: &watch::Receiver<bool>) -> Result<Duration, Failure> {
        let view = &self.controller.view;
        let profiles = view.profiles.heard().objects.clone();
        let has_attachment = |object: &&ProfileObject| {
            object.profile.spec.attachment.placement != Placement::None
                && object.profile.unreadable.is_none()
        };
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
        let wanted = wanted(&all, &view.namespaces.heard().objects);
        let (mut present, mut found) = self.compare(&wanted);
        if !*leads.borrow() {
            return Ok(IDLE);
        }
        let written: BTreeSet<_> = (found.apply.iter().map(|(key, _)| key))
            .chain(&found.unmark)
            .chain(&found.unused)
            .cloned()
            .collect();
        self.writes
            .forget_but(|key| written.contains(key), &present);
        let mut is_done = true;
        let due: Vec<_> = found
            .apply
            .iter()
            .filter(|(key, _)| self.writes.may_try(key))
            .collect();
        for (n, (key, owner)) in due.iter().enumerate() {
            if n == MOST || !*leads.borrow() {
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
            .filter(|key| self.writes.may_try(key))
            .filter_map(|key| Some((key, present.get(key)?)))
            .collect();
        is_done &= marked.len() <= MOST;
        for (key, seen) in marked.iter().take(MOST) {
            if *leads.borrow() {
                self.writes.unmark(view, key, seen).await?;
            }
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
            .min(self.writes.next_try().unwrap_or(IDLE));
        Ok(if is_done { pause } else { Duration::ZERO })
    }

    fn compare(&self, wanted: &Wanted) -> (BTreeMap<Key, Present>, Difference) {
        let present = self.controller.view.attachments();
        let found = difference(wanted, &present, |key| self.writes.is_conflict(key));
        self.controller.metrics.attachments(found.states.values());
        (present, found)
    }
}

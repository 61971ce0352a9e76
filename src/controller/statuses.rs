//! Writes the status of MeshProfiles, and what is wrong with MeshNodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::core::ApiResource;
use serde_json::json;
use tracing::warn;

use super::{
    conditions::Evidence,
    difference::{AttachmentState, Difference},
    failure::Failure,
    nodes,
    objects::ProfileObject,
    reconcile::{IDLE, Reconciler, TOGETHER, Turn},
    wanted::{ObjectKey, Wanted},
};
use crate::profile::{MeshProfile, Status, mesh_node::MeshNode};

/// How often a status is written at most where only numbers have changed.
const NUMBERS: Duration = Duration::from_secs(5);

impl Reconciler<'_> {
    /// Writes the status of profiles where it has changed. One that is refused has a pause, until its profile changes.
    pub(super) async fn profiles(
        &mut self,
        profiles: &BTreeMap<ObjectKey, ProfileObject>,
        wanted: &Wanted,
        found: &Difference,
    ) -> Result<Duration, Failure> {
        let in_the_way = found
            .states
            .iter()
            .filter(|(_, state)| **state == AttachmentState::Conflicting);
        let in_the_way = in_the_way.map(|(key, _)| key.clone()).collect();
        let counted =
            |object: &ProfileObject| object.status.namespaces.is_some_and(|n| n.conflicting > 0);
        let was_counted = profiles.values().any(counted);
        self.events
            .report_conflict(&mut self.writes, in_the_way, was_counted)
            .await?;
        self.written
            .retain(|name, _| wanted.governed.contains_key(name));
        self.refused_profiles.retain(|key, generation| {
            let now = profiles.get(key).map(|object| object.generation);
            now.as_ref() == Some(generation)
        });
        let changed = self.changed(profiles, wanted, found);
        // what became right by itself is not tried again
        let open: BTreeSet<_> = changed.iter().map(|(key, ..)| *key).collect();
        self.refused_profiles.retain(|key, _| open.contains(key));
        let mut pause = IDLE;
        for (key, object, status) in changed {
            let since = self.written.get(&key.name).map(Instant::elapsed);
            let wait = since.and_then(|since| NUMBERS.checked_sub(since));
            if let Some(wait) = wait
                && are_only_numbers(&object.status, &status)
            {
                pause = pause.min(wait);
                continue;
            }
            if !self.refused_profiles.may_try(key) {
                continue;
            }
            let body = json!({
                "apiVersion": "meshoptin.dev/v1alpha1",
                "kind": "MeshProfile",
                "metadata": {"name": key.name},
                "status": status,
            });
            let resource = ApiResource::erase::<MeshProfile>(&());
            match self.writes.status(&resource, &key.name, &body).await {
                Ok(()) => {
                    self.refused_profiles.forget(key);
                    self.written.insert(key.name.clone(), Instant::now());
                    if let Some(known) = self.controller.view.profiles.lock().objects.get_mut(key) {
                        known.status = status.clone();
                    }
                    self.events
                        .transition(&mut self.writes, object, &status)
                        .await?;
                }
                Err(Failure::Refused { why, .. }) => {
                    let generation = object.generation;
                    if self
                        .refused_profiles
                        .add(key, generation, false, why.clone())
                    {
                        warn!(profile = key.name, "the status cannot be written: {why}");
                    }
                }
                Err(failure @ (Failure::Unavailable(_) | Failure::NotHeld)) => return Err(failure),
            }
        }
        Ok(pause.min(self.refused_profiles.next_try().unwrap_or(IDLE)))
    }

    /// The profiles whose status is not what it should be, and what it should be.
    fn changed<'p>(
        &self,
        profiles: &'p BTreeMap<ObjectKey, ProfileObject>,
        wanted: &Wanted,
        found: &Difference,
    ) -> Vec<(&'p ObjectKey, &'p ProfileObject, Status)> {
        let view = &self.controller.view;
        let (refusals, has_attachments) = (self.writes.refused.reasons(), view.has_attachments());
        let known = Evidence {
            profiles,
            wanted,
            states: &found.states,
            refusals: &refusals,
            nodes: &view.nodes.lock().objects,
            has_attachments,
        };
        let now = Timestamp::now();
        let all = profiles.iter();
        let all = all.map(|(key, object)| (key, object, known.status(object, now)));
        all.filter(|(_, object, status)| *status != object.status)
            .collect()
    }

    /// Marks MeshNodes whose agent is silent.
    pub(super) async fn nodes(&mut self) -> Result<Duration, Failure> {
        let (led_for, now) = (self.controller.lease.led_for(), Timestamp::now());
        let after = self.args.silent_after;
        let (mut pause, mut due) = (IDLE, Vec::new());
        {
            let heard = self.controller.view.nodes.lock();
            self.refused_nodes
                .retain(|key, ()| heard.objects.contains_key(key));
            for (key, node) in &heard.objects {
                let next = nodes::silent_in(node, now, led_for, after);
                pause = pause.min(next.unwrap_or(IDLE));
                match nodes::judge(node, now, led_for, after) {
                    Some(conditions) if self.refused_nodes.may_try(key) => {
                        due.push((key.clone(), conditions));
                    }
                    Some(_) => {}
                    None => self.refused_nodes.forget(key),
                }
            }
        }
        let mut turn = Turn::new(Instant::now());
        for (key, conditions) in due {
            if !turn.has_another(Instant::now()) {
                pause = Duration::ZERO; // the rest after everything else had its turn
                break;
            }
            let (resource, object) = (
                ApiResource::erase::<MeshNode>(&()),
                nodes::object(&key.name, &conditions),
            );
            match self.writes.status(&resource, &key.name, &object).await {
                Ok(()) => self.refused_nodes.forget(&key),
                Err(Failure::Refused { why, .. }) => {
                    if self.refused_nodes.add(&key, (), false, why.clone()) {
                        warn!(node = key.name, "the MeshNode cannot be written: {why}");
                    }
                }
                Err(failure @ (Failure::Unavailable(_) | Failure::NotHeld)) => return Err(failure),
            }
        }
        pause = pause.min(self.refused_nodes.next_try().unwrap_or(IDLE));
        Ok(pause.max(TOGETHER))
    }
}

/// Whether conditions are as they were but for their messages.
fn are_only_numbers(before: &Status, now: &Status) -> bool {
    let words = |status: &Status| -> Vec<_> {
        let conditions = status.conditions.iter();
        conditions
            .map(|c| {
                (
                    c.type_.clone(),
                    c.status.clone(),
                    c.reason.clone(),
                    c.observed_generation,
                )
            })
            .collect()
    };
    words(before) == words(now)
}

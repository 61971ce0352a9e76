//! Writes the status of MeshProfiles, and what is wrong with MeshNodes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::core::ApiResource;
use serde_json::json;
use tracing::warn;

use super::{
    conditions::Known,
    difference::{Difference, State},
    failure::Failure,
    nodes,
    objects::ProfileObject,
    reconcile::{IDLE, Reconciler, TOGETHER},
    wanted::{Key, Wanted},
};
use crate::mesh::{MeshProfile, Status, mesh_node::MeshNode};

/// How often a status is written at most where only numbers have changed.
const NUMBERS: Duration = Duration::from_secs(5);

impl Reconciler<'_> {
    /// Writes the status of profiles where it has changed.
    pub(super) async fn profiles(
        &mut self,
        profiles: &BTreeMap<Key, ProfileObject>,
        wanted: &Wanted,
        found: &Difference,
    ) -> Result<Duration, Failure> {
        let (refusals, nodes) = (
            self.writes.refusals(),
            self.controller.view.nodes.heard().objects.clone(),
        );
        let known = Known {
            profiles,
            wanted,
            states: &found.states,
            refusals: &refusals,
            nodes: &nodes,
        };
        let in_the_way = found
            .states
            .iter()
            .filter(|(_, state)| **state == State::Conflicting);
        let in_the_way = in_the_way.map(|(key, _)| key.clone()).collect();
        let counted =
            |object: &ProfileObject| object.status.namespaces.is_some_and(|n| n.conflicting > 0);
        let was_counted = profiles.values().any(counted);
        self.events
            .in_the_way(&mut self.writes, in_the_way, was_counted)
            .await;
        self.written
            .retain(|name, _| wanted.governed.contains_key(name));
        let mut pause = IDLE;
        for (key, object) in profiles {
            let status = known.status(object, Timestamp::now());
            if status == object.status {
                continue;
            }
            let since = self.written.get(&key.name).map(Instant::elapsed);
            let wait = since.and_then(|since| NUMBERS.checked_sub(since));
            if let Some(wait) = wait
                && are_only_numbers(&object.status, &status)
            {
                pause = pause.min(wait);
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
                    self.written.insert(key.name.clone(), Instant::now());
                    self.events
                        .transition(&mut self.writes, object, &status)
                        .await;
                    if let Some(known) = self.controller.view.profiles.heard().objects.get_mut(key)
                    {
                        known.status = status;
                    }
                }
                Err(Failure::Refused { why, .. }) => {
                    warn!(profile = key.name, "the status cannot be written: {why}")
                }
                Err(unavailable) => return Err(unavailable),
            }
        }
        Ok(pause)
    }

    /// Marks MeshNodes whose agent is silent.
    pub(super) async fn nodes(&mut self) -> Result<Duration, Failure> {
        let nodes = self.controller.view.nodes.heard().objects.clone();
        let mut pause = IDLE;
        for (key, node) in &nodes {
            let now = Timestamp::now();
            pause = pause.min(
                nodes::silent_in(node, now)
                    .filter(|wait| !wait.is_zero())
                    .unwrap_or(IDLE),
            );
            let Some(conditions) = nodes::judged(node, now) else {
                continue;
            };
            let (resource, object) = (
                ApiResource::erase::<MeshNode>(&()),
                nodes::object(&key.name, &conditions),
            );
            match self.writes.status(&resource, &key.name, &object).await {
                Ok(()) => {}
                Err(Failure::Refused { why, .. }) => {
                    warn!(node = key.name, "the MeshNode cannot be written: {why}")
                }
                Err(unavailable) => return Err(unavailable),
            }
        }
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

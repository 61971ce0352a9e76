//! Which agent owns a node: the one on whose socket plugins ask. Two agents overlap while a DaemonSet is rolled out or back.
//!
//! An agent that does not own the node only prepares itself, and changes nothing. A newly started agent takes over from an agent of
//! its own or an older version as soon as it is ready. In all other cases it takes over only if nobody answers, or if the owner has
//! not been ready, or has said nothing, for a while. So a version that does not become ready never takes over from one that is, and
//! an older agent, which a rollback starts, waits for the newer one to end.

use std::time::{Duration, Instant};

use tracing::info;

use super::{
    health::Health,
    owner::{OwnerState, ask_owner},
    ownership::Role,
};
use crate::source::wire::Owner;

/// How often an agent that does not own the node asks the owner.
const LOOK: Duration = Duration::from_millis(500);
/// How long an owner that is not ready or says nothing keeps the node.
const NOT_READY: Duration = Duration::from_secs(10);

/// Who owned the node before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nobody,
    Another,
}

/// Waits until this agent may take over. `was_owner`: it owned the node, and another agent took over.
pub(super) async fn stand_by(health: &Health, was_owner: bool) -> Before {
    let (mut not_ready, mut before) = (None::<Instant>, None);
    let mut saw_owner = was_owner;
    loop {
        let found = tokio::task::spawn_blocking(ask_owner)
            .await
            .unwrap_or(OwnerState::Nobody);
        match &found {
            OwnerState::Nobody
            | OwnerState::Silent
            | OwnerState::Owner(Owner {
                is_ready: false, ..
            }) => {
                not_ready = not_ready.or_else(|| Some(Instant::now()));
            }
            OwnerState::Older | OwnerState::Newer | OwnerState::Owner(_) => not_ready = None,
        }
        saw_owner |= found != OwnerState::Nobody;
        // an agent is not ready before it has taken over: its readiness ends the other one
        health.ownership.set(if was_owner || found.is_newer() {
            Role::StandingBy
        } else {
            Role::Starting
        });
        // one that is killed is back soon; without any this one reports why it is not ready
        let waited = not_ready.is_some_and(|since| since.elapsed() >= NOT_READY) || !saw_owner;
        let is_ready = health.unable().is_none();
        if may_take_over(&found, was_owner, waited, is_ready) {
            return if found == OwnerState::Nobody {
                Before::Nobody
            } else {
                Before::Another
            };
        }
        if before.as_ref() != Some(&found) {
            if let OwnerState::Owner(Owner { version, .. }) = &found {
                info!("an agent of version {version} owns the node: standing by");
            }
            before = Some(found);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// `waited`: there has been no ready owner for a while.
fn may_take_over(found: &OwnerState, was_owner: bool, waited: bool, is_ready: bool) -> bool {
    match found {
        OwnerState::Nobody => is_ready || waited,
        OwnerState::Silent => is_ready && waited,
        OwnerState::Older | OwnerState::Newer | OwnerState::Owner(_) => {
            is_ready && (waited || !was_owner && !found.is_newer())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::VERSION;

    #[test]
    fn a_ready_agent_takes_over_unless_the_owner_is_newer_and_ready() {
        let owner = |version: &str, is_ready| {
            let version = version.to_owned();
            OwnerState::Owner(Owner { version, is_ready })
        };
        let (same, newer, dead) = (
            owner(VERSION, true),
            owner("99.0.0", true),
            owner("99.0.0", false),
        );
        // found, had the node, there was no ready owner for long, ready itself
        for (found, was_owner, waited, is_ready, takes) in [
            (&OwnerState::Nobody, false, true, false, true),
            (&OwnerState::Nobody, false, false, false, false),
            (&OwnerState::Nobody, true, false, false, false),
            (&OwnerState::Nobody, true, false, true, true),
            (&OwnerState::Older, false, false, true, true),
            (&OwnerState::Older, false, false, false, false),
            (&OwnerState::Older, true, false, true, false),
            (&OwnerState::Newer, false, false, true, false),
            (&OwnerState::Newer, true, false, true, false),
            (&same, false, false, true, true),
            (&same, false, false, false, false),
            (&same, true, false, true, false),
            (&newer, false, false, true, false),
            (&OwnerState::Silent, false, false, true, false),
            (&OwnerState::Silent, false, true, true, true),
            (&OwnerState::Silent, true, true, true, true),
            (&OwnerState::Silent, true, true, false, false),
            (&dead, false, false, true, false),
            (&dead, false, true, true, true),
            (&dead, true, true, true, true),
            (&dead, true, true, false, false),
        ] {
            assert_eq!(
                may_take_over(found, was_owner, waited, is_ready),
                takes,
                "{found:?} {was_owner} {waited} {is_ready}"
            );
        }
    }
}

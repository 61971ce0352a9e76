//! Which agent owns a node: the one on whose socket plugins ask. Two agents overlap while a DaemonSet is rolled out or back.
//!
//! An agent that does not own the node only prepares itself, and changes nothing. A newly started agent takes over from an agent of
//! its own or an older version as soon as it is ready. In all other cases it takes over only if nobody answers, or if the owner has
//! not been ready for a while. So a version that does not become ready never takes over from one that is, and an older agent, which a
//! rollback starts, waits for the newer one to end.

use std::{
    io::{BufRead, BufReader, Read, Write},
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::sync::watch;
use tracing::info;

use super::{VERSION, health::Health};
use crate::{
    profile::is_newer,
    source::{
        connect,
        wire::{self, Answer, Ask, Owner, Question, Reply},
    },
};

/// How often an agent that does not own the node asks the owner.
const LOOK: Duration = Duration::from_millis(500);
/// How long an owner that is not ready keeps the node.
const NOT_READY: Duration = Duration::from_secs(10);
/// How long an owner may take to answer.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Longest answer of an owner, in bytes.
const LONGEST: u64 = 4096;

/// The role of this agent on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is starting.
    Starting,
    /// Another agent owns the node.
    StandingBy,
    /// Plugins ask this agent.
    Owner,
}

/// Whether this agent owns its node.
pub(super) struct Ownership(watch::Sender<Role>);

impl Ownership {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Role::Starting))
    }

    pub(super) fn role(&self) -> Role {
        *self.0.borrow()
    }

    pub(super) fn set(&self, role: Role) {
        self.0
            .send_if_modified(|before| std::mem::replace(before, role) != role);
    }

    /// Reports every later change.
    pub(super) fn changes(&self) -> watch::Receiver<Role> {
        self.0.subscribe()
    }

    /// Runs `work` from its beginning whenever this agent becomes the owner, until it is canceled.
    pub(super) async fn while_owner(&self, work: impl AsyncFn()) {
        let mut role = self.changes();
        while role.wait_for(|role| *role == Role::Owner).await.is_ok() {
            tokio::select! {
                () = work() => return,
                _ = role.wait_for(|role| *role != Role::Owner) => {}
            }
        }
    }
}

/// What is known about the node's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OwnerState {
    /// No agent answers.
    Nobody,
    /// A version that cannot describe itself.
    Older,
    /// A version with an incompatible wire version.
    Newer,
    Owner(Owner),
}

impl OwnerState {
    fn is_newer(&self) -> bool {
        match self {
            Self::Newer => true,
            Self::Owner(owner) => is_newer(&owner.version, VERSION),
            Self::Nobody | Self::Older => false,
        }
    }
}

/// Who owned the node before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nobody,
    Another,
}

/// Waits until this agent may take over. `had_it`: it owned the node, and another agent took over.
pub(super) async fn stand_by(health: &Health, had_it: bool) -> Before {
    let (mut not_ready, mut before) = (None::<Instant>, None);
    let mut was_beside = had_it;
    loop {
        let found = tokio::task::spawn_blocking(owner)
            .await
            .unwrap_or(OwnerState::Nobody);
        match &found {
            OwnerState::Nobody
            | OwnerState::Owner(Owner {
                is_ready: false, ..
            }) => {
                not_ready = not_ready.or_else(|| Some(Instant::now()));
            }
            OwnerState::Older | OwnerState::Newer | OwnerState::Owner(_) => not_ready = None,
        }
        was_beside |= found != OwnerState::Nobody;
        // an agent is not ready before it has taken over: its readiness ends the other one
        health.ownership.set(if had_it || found.is_newer() {
            Role::StandingBy
        } else {
            Role::Starting
        });
        // one that is killed is back soon; without any this one reports why it is not ready
        let waited = not_ready.is_some_and(|since| since.elapsed() >= NOT_READY) || !was_beside;
        let is_ready = health.unable().is_none();
        if may_take(&found, had_it, waited, is_ready) {
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
fn may_take(found: &OwnerState, had_it: bool, waited: bool, is_ready: bool) -> bool {
    match found {
        OwnerState::Nobody => is_ready || waited,
        OwnerState::Older | OwnerState::Newer | OwnerState::Owner(_) => {
            is_ready && (waited || !had_it && !found.is_newer())
        }
    }
}

/// Whether an agent of a newer version owns the node.
pub(super) fn newer_agent_owns_node() -> bool {
    owner().is_newer()
}

/// Asks who owns the node. An owner that accepts connections and does not answer is not ready.
fn owner() -> OwnerState {
    let Ok(mut stream) = connect() else {
        return OwnerState::Nobody;
    };
    let mut line = Vec::new();
    let mut ask = || -> std::io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(AT_ONCE))?;
        stream.set_write_timeout(Some(AT_ONCE))?;
        let mut question = serde_json::to_vec(&Question::new(Ask::Owner {}))?;
        question.push(b'\n');
        stream.write_all(&question)?;
        BufReader::new((&stream).take(LONGEST)).read_until(b'\n', &mut line)?;
        Ok(())
    };
    match ask() {
        Ok(()) if line.is_empty() => OwnerState::Nobody, // it has just ended
        Ok(()) => understood(&line),
        Err(_) => silent(),
    }
}

/// Reads an owner's answer.
fn understood(line: &[u8]) -> OwnerState {
    #[derive(Deserialize)]
    struct Spoken {
        version: u32,
    }
    match serde_json::from_slice(line) {
        Ok(Answer {
            reply: Reply::Owner(owner),
            ..
        }) => OwnerState::Owner(owner),
        Ok(_) | Err(_) => match serde_json::from_slice::<Spoken>(line) {
            Ok(Spoken { version }) if version > wire::VERSION => OwnerState::Newer,
            Ok(_) => OwnerState::Older,
            Err(_) => silent(),
        },
    }
}

/// An owner that does not describe itself.
fn silent() -> OwnerState {
    OwnerState::Owner(Owner {
        version: String::new(),
        is_ready: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (found, had_it, waited, is_ready, takes) in [
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
            (&dead, false, false, true, false),
            (&dead, false, true, true, true),
            (&dead, true, true, true, true),
            (&dead, true, true, false, false),
        ] {
            assert_eq!(
                may_take(found, had_it, waited, is_ready),
                takes,
                "{found:?} {had_it} {waited} {is_ready}"
            );
        }
    }

    #[test]
    fn the_wire_version_shows_whether_an_owner_is_newer_and_a_silent_owner_is_not_ready() {
        let refused = r#"{"version":V,"reply":{"refused":{"reason":"AgentUnavailable","cause":"c","remedy":null}}}"#;
        let of = |version: &str| understood(refused.replace('V', version).as_bytes());
        assert_eq!((of("1"), of("3")), (OwnerState::Older, OwnerState::Newer));
        assert_eq!(
            understood(br#"{"version":9,"reply":{"other":1}}"#),
            OwnerState::Newer
        );
        assert_eq!(understood(b"nonsense"), silent());
        let ready = Owner {
            version: "1.2.3".into(),
            is_ready: true,
        };
        let line = br#"{"version":2,"reply":{"owner":{"version":"1.2.3","isReady":true}}}"#;
        assert_eq!(understood(line), OwnerState::Owner(ready));
    }
}

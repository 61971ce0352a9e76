//! Which agent owns a node: the one on whose socket plugins ask. Two agents overlap while a DaemonSet is rolled out or back.
//!
//! An agent that does not own the node only prepares itself, and changes nothing. A newly started agent takes over from an agent of
//! its own or an older version as soon as it is ready. In all other cases it takes over only if nobody answers, or if the owner has
//! not been ready for a while. So a version that does not become ready never takes over from one that is, and an older agent, which a
//! rollback starts, waits for the newer one to end.

use std::{
    io::{BufRead, BufReader, Read, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::sync::watch;
use tracing::info;

use super::{Agent, VERSION};
use crate::{
    mesh::is_newer,
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

    /// Runs `work` from its beginning whenever this agent becomes the owner, until it is cancelled.
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
enum Found {
    /// No agent answers.
    Nobody,
    /// A version that cannot describe itself.
    Older,
    /// A version with an incompatible wire version.
    Newer,
    Owner(Owner),
}

impl Found {
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
pub(super) async fn stand_by(agent: &Arc<Agent>, had_it: bool) -> Before {
    let (mut not_ready, mut before) = (None::<Instant>, None);
    loop {
        let found = tokio::task::spawn_blocking(owner)
            .await
            .unwrap_or(Found::Nobody);
        match &found {
            Found::Owner(Owner {
                is_ready: false, ..
            }) => {
                not_ready = not_ready.or_else(|| Some(Instant::now()));
            }
            Found::Nobody | Found::Older | Found::Newer | Found::Owner(_) => not_ready = None,
        }
        // an agent is not ready before it has taken over: its readiness ends the other one
        agent.ownership.set(if had_it || found.is_newer() {
            Role::StandingBy
        } else {
            Role::Starting
        });
        let waited = not_ready.is_some_and(|since| since.elapsed() >= NOT_READY);
        let is_ready = agent.unable().is_none();
        if may_take(&found, had_it, waited, is_ready) {
            return if found == Found::Nobody {
                Before::Nobody
            } else {
                Before::Another
            };
        }
        if before.as_ref() != Some(&found) {
            if let Found::Owner(Owner { version, .. }) = &found {
                info!("an agent of version {version} owns the node: standing by");
            }
            before = Some(found);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn may_take(found: &Found, had_it: bool, was_not_ready: bool, is_ready: bool) -> bool {
    match found {
        Found::Nobody => true,
        Found::Older | Found::Newer | Found::Owner(_) => {
            is_ready && (was_not_ready || !had_it && !found.is_newer())
        }
    }
}

/// Whether an agent of a newer version owns the node.
pub(super) fn is_newer_there() -> bool {
    owner().is_newer()
}

/// Asks who owns the node. An owner that accepts connections and does not answer is not ready.
fn owner() -> Found {
    let Ok(mut stream) = connect() else {
        return Found::Nobody;
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
        Ok(()) if line.is_empty() => Found::Nobody, // it has just ended
        Ok(()) => understood(&line),
        Err(_) => silent(),
    }
}

/// Reads an owner's answer.
fn understood(line: &[u8]) -> Found {
    #[derive(Deserialize)]
    struct Spoken {
        version: u32,
    }
    match serde_json::from_slice(line) {
        Ok(Answer {
            reply: Reply::Owner(owner),
            ..
        }) => Found::Owner(owner),
        Ok(_) | Err(_) => match serde_json::from_slice::<Spoken>(line) {
            Ok(Spoken { version }) if version > wire::VERSION => Found::Newer,
            Ok(_) => Found::Older,
            Err(_) => silent(),
        },
    }
}

/// An owner that does not describe itself.
fn silent() -> Found {
    Found::Owner(Owner {
        version: String::new(),
        is_ready: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_taken_by_who_is_ready_and_not_from_a_newer_owner_that_is() {
        let owner = |version: &str, is_ready| {
            let version = version.to_owned();
            Found::Owner(Owner { version, is_ready })
        };
        let (same, newer, dead) = (
            owner(VERSION, true),
            owner("99.0.0", true),
            owner("99.0.0", false),
        );
        // found, had the node, the owner was not ready for long, ready itself
        for (found, had_it, waited, is_ready, takes) in [
            (&Found::Nobody, false, false, false, true),
            (&Found::Nobody, true, false, true, true),
            (&Found::Older, false, false, true, true),
            (&Found::Older, false, false, false, false),
            (&Found::Older, true, false, true, false),
            (&Found::Newer, false, false, true, false),
            (&Found::Newer, true, false, true, false),
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
    fn an_owner_of_another_wire_version_is_older_or_newer_and_one_that_says_nothing_not_ready() {
        let refused = r#"{"version":V,"reply":{"refused":{"reason":"AgentUnavailable","cause":"c","remedy":null}}}"#;
        let of = |version: &str| understood(refused.replace('V', version).as_bytes());
        assert_eq!((of("1"), of("3")), (Found::Older, Found::Newer));
        assert_eq!(
            understood(br#"{"version":9,"reply":{"other":1}}"#),
            Found::Newer
        );
        assert_eq!(understood(b"nonsense"), silent());
        let ready = Owner {
            version: "1.2.3".into(),
            is_ready: true,
        };
        let line = br#"{"version":2,"reply":{"owner":{"version":"1.2.3","isReady":true}}}"#;
        assert_eq!(understood(line), Found::Owner(ready));
    }
}

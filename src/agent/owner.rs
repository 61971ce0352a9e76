//! Asks which agent owns the node: the one on whose socket plugins ask.

use std::{
    io::{BufRead, BufReader, Read, Write},
    time::Duration,
};

use serde::Deserialize;

use crate::{
    profile::{VERSION, is_newer},
    source::{
        connect,
        wire::{self, Answer, Ask, Owner, Question, Reply},
    },
};

/// How long an owner may take to answer.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Longest answer of an owner, in bytes.
const LONGEST: u64 = 4096;

/// What is known about the node's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnerState {
    /// No agent answers.
    Nobody,
    /// A version that cannot describe itself.
    Older,
    /// A version with an incompatible wire version.
    Newer,
    /// It accepts connections and does not describe itself, so it may be of any version.
    Silent,
    Owner(Owner),
}

impl OwnerState {
    pub(super) fn is_newer(&self) -> bool {
        match self {
            Self::Newer => true,
            Self::Owner(owner) => is_newer(&owner.version, VERSION),
            Self::Nobody | Self::Older | Self::Silent => false,
        }
    }
}

/// Whether an agent of a newer version owns the node.
pub(super) fn newer_agent_owns_node() -> bool {
    ask_owner().is_newer()
}

/// Asks who owns the node.
pub(super) fn ask_owner() -> OwnerState {
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
        Ok(()) => read_answer(&line),
        Err(_) => OwnerState::Silent,
    }
}

/// Reads an owner's answer.
fn read_answer(line: &[u8]) -> OwnerState {
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
            Err(_) => OwnerState::Silent,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_version_shows_whether_an_owner_is_newer() {
        let refused = r#"{"version":V,"reply":{"refused":{"reason":"AgentUnavailable","cause":"c","remedy":null}}}"#;
        let of = |version: &str| read_answer(refused.replace('V', version).as_bytes());
        assert_eq!((of("1"), of("3")), (OwnerState::Older, OwnerState::Newer));
        assert_eq!(
            read_answer(br#"{"version":9,"reply":{"other":1}}"#),
            OwnerState::Newer
        );
        assert_eq!(read_answer(b"nonsense"), OwnerState::Silent);
        let ready = Owner {
            version: "1.2.3".into(),
            is_ready: true,
        };
        let line = br#"{"version":2,"reply":{"owner":{"version":"1.2.3","isReady":true}}}"#;
        assert_eq!(read_answer(line), OwnerState::Owner(ready));
    }
}

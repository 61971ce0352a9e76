//! Serves the socket on which plugins ask. Each conversation is a task with its own deadlines, so a slow or dead peer delays nobody
//! else.
mod socket;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::Semaphore,
    time::timeout,
};
use tracing::{debug, warn};

use self::socket::AgentSocket;
use super::{
    look_up::{AnswerSource, LookUps},
    maintain::install,
    ownership::Role,
    profiles::Ungoverned,
    reports,
    shared::Agent,
    take_over::{Before, stand_by},
};
use crate::{
    deadline::Deadline,
    node::{SourceKind, paths},
    reason::{Explanation, Reason},
    source::wire::{
        self, Answer, Ask, Governed, LONGEST_QUESTION, LookUp, Outcome, Question, Reply, Report,
        TELLS_ALL, VERSION, WHOLE_PODS,
    },
};

/// Conversations at a time.
const MOST: usize = 1024;

/// For the question, which the plugin sends at once, and for taking the answer.
const AT_ONCE: Duration = Duration::from_secs(2);

/// For the report: an ADD takes no longer.
const WHOLE_CALL: Duration = Duration::from_secs(75);

/// How often we look whether our socket is still where plugins look for it.
const LOOK: Duration = Duration::from_secs(2);

/// Takes the node, and answers while it is ours; again and again, until the agent ends.
pub(super) async fn serve(agent: Arc<Agent>) {
    let places = Arc::new(Semaphore::new(MOST));
    let mut was_owner = false;
    loop {
        if stand_by(&agent.health, was_owner).await == Before::Another {
            install(&agent).await; // the program first: it asks a newer agent in its version, too
        }
        match AgentSocket::bind() {
            Ok(socket) => {
                was_owner = true;
                agent.health.ownership.set(Role::Owner);
                answer(&agent, &socket, &places).await;
                agent.health.ownership.set(Role::StandingBy);
                warn!("another process has taken the socket: standing by");
            }
            Err(error) => {
                agent.health.ownership.set(Role::Starting);
                warn!(reason = error.reason.as_str(), "{error}");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Until the socket is no longer where plugins look for it.
async fn answer(agent: &Arc<Agent>, socket: &AgentSocket, places: &Arc<Semaphore>) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            _ = look.tick() => {
                if socket.is_in_place() {
                    continue;
                }
                return;
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("accepting on {}: {error}", paths::AGENT_SOCKET);
                tokio::time::sleep(Duration::from_millis(100)).await; // out of descriptors, perhaps
                continue;
            }
        };
        let (Ok(place), true) = (places.clone().try_acquire_owned(), is_root(&stream)) else {
            continue;
        };
        let agent = agent.clone();
        tokio::spawn(async move {
            if let Err(error) = conversation(&agent, stream).await {
                debug!("a conversation ended: {error}");
            }
            drop(place);
        });
    }
}

fn is_root(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0)
}

async fn conversation(agent: &Agent, mut stream: UnixStream) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    let line = timeout(AT_ONCE, read_line(&mut read)).await??;
    let question = match serde_json::from_slice::<Question>(&line) {
        Ok(question) if wire::is_spoken(question.version) => question,
        Ok(Question { version, .. }) => {
            let other = Reason::AgentUnavailable
                .because(format!("the agent speaks version {VERSION}, not {version}"));
            return write_reply(&mut write, VERSION, refusal(&other)).await;
        }
        Err(error) => {
            let unread = Reason::AgentUnavailable
                .because(format!("the agent cannot read the question: {error}"));
            return write_reply(&mut write, VERSION, refusal(&unread)).await;
        }
    };
    let version = question.version; // who asks may not be upgraded yet, and understands no other
    let look_up = match question.ask {
        Ask::Bypassing {} => {
            let bypassing = agent.health.last_audit().bypassing.clone();
            return write_reply(&mut write, version, Reply::Bypassing(bypassing)).await;
        }
        Ask::Owner {} => {
            return write_reply(&mut write, version, Reply::Owner(agent.health.owner())).await;
        }
        Ask::Decided { uid } => {
            let decided = agent.outcomes.of(&uid);
            return write_reply(&mut write, version, Reply::Decided(decided)).await;
        }
        Ask::Report(outcome) => {
            reports::take(agent, *outcome);
            return write_reply(&mut write, version, Reply::Heard {}).await;
        }
        Ask::LookUp(look_up) => look_up,
    };
    let (governed, from) = match find_governed(agent, &look_up, version).await {
        Ok(found) => found,
        Err(why) => {
            if version < TELLS_ALL {
                reports::take(agent, of_refusal(look_up, &why));
            }
            return write_reply(&mut write, version, refusal(&why)).await;
        }
    };
    let uid = governed.pod.metadata.uid.clone();
    write_reply(&mut write, version, Reply::Found(Box::new(governed))).await?;
    let report = timeout(WHOLE_CALL, self::read_line(&mut read)).await??;
    match serde_json::from_slice(&report) {
        Ok(Some(report)) => {
            agent.metrics.count_look_up(from.as_str());
            let outcome = Outcome {
                at: Timestamp::now(),
                namespace: look_up.namespace,
                name: look_up.name,
                uid: Some(uid),
                source: Some(SourceKind::Agent),
                report,
            };
            reports::take(agent, outcome);
        }
        Ok(None) => {} // it was only to be explained
        Err(_nothing) => agent.metrics.count_unreported(),
    }
    Ok(())
}

/// The pod, its namespace and its profile, and where the pod came from, for a client that speaks this version.
async fn find_governed(
    agent: &Agent,
    asked: &LookUp,
    version: u32,
) -> Result<(Governed, AnswerSource), Explanation> {
    // who asks waits that long: our word, whatever it is, must come before
    let deadline = Deadline::after(Duration::from_millis(asked.millis).mul_f32(0.9));
    let Agent {
        cache,
        namespaces,
        cluster,
        node,
        ..
    } = agent;
    let (found, from) = LookUps {
        cache,
        namespaces,
        cluster,
        node,
    }
    .look_up(&asked.pod(), deadline)
    .await?;
    let chosen = agent
        .profiles
        .governing(&found, asked.profile.as_deref(), deadline)
        .await;
    let (profile, trouble) = match chosen {
        Ok(chosen) => (Some(chosen.wire), chosen.warning),
        // what needs no profile is decided all the same
        Err(Ungoverned::Refused(why)) if version >= WHOLE_PODS => (None, Some(why)),
        Err(why) => return Err(why.into()),
    };
    let governed = Governed {
        pod: found.pod,
        namespace: found.namespace,
        profile,
        trouble: trouble.as_ref().map(Into::into),
    };
    Ok((governed, from))
}

/// A refusal as the outcome of an ADD, for a plugin of a version that does not report how it ended.
fn of_refusal(look_up: LookUp, refusal: &Explanation) -> Outcome {
    let LookUp {
        namespace,
        name,
        uid,
        ..
    } = look_up;
    Outcome {
        at: Timestamp::now(),
        namespace,
        name,
        uid,
        source: Some(SourceKind::Agent),
        report: Report {
            outcome: refusal.into(),
            refused: true,
            warnings: Vec::new(),
            profile: String::new(),
            look_up: Duration::ZERO,
            apply: Duration::ZERO,
        },
    }
}

fn refusal(explanation: &Explanation) -> Reply {
    Reply::Refused(explanation.into())
}

/// A line of bounded length; empty where the peer has gone.
async fn read_line(from: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(LONGEST_QUESTION as u64)
        .read_until(b'\n', &mut line)
        .await?;
    Ok(line)
}

async fn write_reply(
    to: &mut (impl AsyncWriteExt + Unpin),
    version: u32,
    reply: Reply,
) -> io::Result<()> {
    let mut line = json(&Answer { version, reply })?;
    line.push(b'\n');
    timeout(AT_ONCE, to.write_all(&line)).await?
}

fn json(what: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec(what).map_err(io::Error::other)
}

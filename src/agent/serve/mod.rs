//! The socket that the plugin asks on. Each conversation is a task of its own with its own deadlines: a slow or dead peer holds up nobody.
mod socket;

use std::{io, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::Semaphore,
    time::timeout,
};
use tracing::{debug, warn};

use self::socket::Socket;
use super::{
    Agent,
    events::About,
    look_up::{From, LookUps},
};
use crate::{
    deadline::Deadline,
    node::paths,
    reason::{Explanation, Reason},
    source::{
        connect,
        wire::{
            self, Answer, Ask, Governed, LONGEST_QUESTION, LookUp, Question, Reply, Report,
            VERSION, WHOLE_PODS,
        },
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

/// Answers until the agent ends. Where the socket is taken away it is recreated, unless another agent answers in its place.
pub(super) async fn serve(agent: Arc<Agent>) -> Result<(), Explanation> {
    let (places, mut socket) = (Arc::new(Semaphore::new(MOST)), Socket::bind()?);
    agent.hears(true);
    let mut look = tokio::time::interval(LOOK);
    loop {
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            _ = look.tick() => {
                let mut hears = socket.is_in_place();
                if !hears && connect().is_err_and(|e| e.kind() != io::ErrorKind::WouldBlock) {
                    match Socket::bind() {
                        Ok(anew) => (socket, hears) = (anew, true),
                        Err(error) => warn!(reason = error.reason.as_str(), "{error}"),
                    }
                }
                agent.hears(hears);
                continue;
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
    let line = timeout(AT_ONCE, line(&mut read)).await??;
    let question = match serde_json::from_slice::<Question>(&line) {
        Ok(question) if wire::is_spoken(question.version) => question,
        Ok(Question { version, .. }) => {
            let other = Reason::AgentUnavailable
                .because(format!("the agent speaks version {VERSION}, not {version}"));
            return say(&mut write, VERSION, refused(&other)).await;
        }
        Err(error) => {
            let unread = Reason::AgentUnavailable
                .because(format!("the agent cannot read the question: {error}"));
            return say(&mut write, VERSION, refused(&unread)).await;
        }
    };
    let version = question.version; // who asks may not be upgraded yet, and understands no other
    let look_up = match question.ask {
        Ask::Bypassing {} => {
            return say(&mut write, version, Reply::Bypassing(agent.bypassing())).await;
        }
        Ask::LookUp(look_up) => look_up,
    };
    let (governed, from) = match governed(agent, &look_up, version).await {
        Ok(found) => found,
        Err(refusal) => {
            agent.metrics.refused(refusal.reason);
            if let Some(uid) = look_up.uid {
                agent.events.tell(
                    About {
                        namespace: look_up.namespace,
                        name: look_up.name,
                        uid,
                    },
                    refusal.clone(),
                    &agent.metrics,
                );
            }
            return say(&mut write, version, refused(&refusal)).await;
        }
    };
    let about = About {
        namespace: look_up.namespace,
        name: look_up.name,
        uid: governed.pod.metadata.uid.clone(),
    };
    say(&mut write, version, Reply::Found(Box::new(governed))).await?;
    let report = timeout(WHOLE_CALL, self::line(&mut read)).await??;
    match serde_json::from_slice(&report) {
        Ok(Some(report)) => reported(agent, &about, report, from),
        Ok(None) => {} // it was only to be explained
        Err(_nothing) => agent.metrics.unreported(),
    }
    Ok(())
}

/// The pod, its namespace and its profile, and where the pod came from, for a client that speaks this version.
async fn governed(
    agent: &Agent,
    asked: &LookUp,
    version: u32,
) -> Result<(Governed, From), Explanation> {
    // who asks waits that long: our word, whatever it is, must come before
    let deadline = Deadline::after(Duration::from_millis(asked.millis).mul_f32(0.9));
    let Agent {
        cache,
        cluster,
        metrics,
        node,
        ..
    } = agent;
    let (found, from) = LookUps {
        cache,
        cluster,
        metrics,
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
        Err(why) if version >= WHOLE_PODS && why.reason != Reason::AgentUnavailable => {
            (None, Some(why))
        }
        Err(why) => return Err(why),
    };
    let governed = Governed {
        pod: found.pod,
        namespace: found.namespace,
        profile,
        trouble: trouble.as_ref().map(Into::into),
    };
    Ok((governed, from))
}

/// Counts what came of an ADD, and tells it on the pod.
fn reported(agent: &Agent, about: &About, report: Report, from: From) {
    let outcome = Explanation::from(report.outcome);
    agent.metrics.looked_up(from.as_str());
    agent
        .metrics
        .added(outcome.reason, report.look_up, report.apply);
    let warnings: Vec<_> = report.warnings.into_iter().map(Explanation::from).collect();
    let is_told = report.refused || matches!(outcome.reason, Reason::Redirected);
    let told_twice = warnings.iter().any(|w| w.reason == outcome.reason);
    for explanation in warnings
        .into_iter()
        .chain((is_told && !told_twice).then_some(outcome))
    {
        agent
            .events
            .tell(about.clone(), explanation, &agent.metrics);
    }
}

fn refused(explanation: &Explanation) -> Reply {
    Reply::Refused(explanation.into())
}

/// A line of bounded length; empty where the peer has gone.
async fn line(from: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(LONGEST_QUESTION as u64)
        .read_until(b'\n', &mut line)
        .await?;
    Ok(line)
}

async fn say(to: &mut (impl AsyncWriteExt + Unpin), version: u32, reply: Reply) -> io::Result<()> {
    let mut line = json(&Answer { version, reply })?;
    line.push(b'\n');
    timeout(AT_ONCE, to.write_all(&line)).await?
}

fn json(what: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec(what).map_err(io::Error::other)
}

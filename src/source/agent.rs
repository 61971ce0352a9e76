//! Source `agent`: asks the node agent over its socket. Waiting for it costs a file descriptor; nothing of the API client is loaded
//! meanwhile.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

use super::{
    FoundPod, Governing, NoAnswer,
    wire::{
        self, Answer, Ask, BEFORE, Bypassing, LONGEST_ANSWER, LookUp, Outcome, Question, Reply,
        Report, VERSION, WHOLE_PODS,
    },
};
use crate::{
    cni::PodRef,
    deadline::{Attempts, Deadline},
    node::{Installed, outcomes, paths},
    reason::{Explanation, Reason},
};

/// How long an ADD waits for an agent that is away where the API can be asked instead: a restart takes less.
const RESTART: Duration = Duration::from_secs(2);

/// A conversation with the agent that has answered.
#[derive(Debug)]
pub struct Conversation(UnixStream);

/// What the agent said.
pub(super) struct AgentAnswer {
    pub(super) found: FoundPod,
    pub(super) governing: Governing,
    pub(super) conversation: Conversation,
}

/// Asks for a pod. While the agent is away, which is what an update or a restart looks like, it is asked again and again: until the
/// deadline where nobody else can be asked.
pub(super) fn look_up(
    pod: &PodRef,
    profile: Option<&str>,
    deadline: Deadline,
    is_last: bool,
) -> Result<AgentAnswer, NoAnswer> {
    let patience = if is_last { deadline } else { deadline.half() };
    let (first, longest) = (Duration::from_millis(5), Duration::from_millis(250));
    let mut attempts = Attempts::until(patience, first, longest);
    loop {
        let away = match attempt(&connect_to_agent, pod, profile, patience) {
            Ok(heard) => return Ok(heard),
            Err(LookUpError::Refused(why)) if why.reason.is_no_answer() => {
                return Err(NoAnswer::Away(why));
            }
            Err(LookUpError::Refused(why)) => return Err(NoAnswer::Refused(why)),
            Err(LookUpError::Unavailable(why)) => why,
        };
        match Installed::load()? {
            Some(Installed {
                uninstalled: true, ..
            }) => return Err(NoAnswer::Refused(Reason::Uninstalled.into())),
            Some(_) => {}
            None => return Err(NoAnswer::Absent(Reason::NoSource.because(super::NOBODY))),
        }
        let is_over = !is_last && deadline.elapsed() > RESTART;
        match attempts.pause(Duration::ZERO).filter(|_| !is_over) {
            Some(pause) => std::thread::sleep(pause),
            None => return Err(NoAnswer::Away(unavailable(&away))),
        }
    }
}

/// The pods of this node that should be redirected and are not; `None` where there is no agent.
pub fn bypassing(deadline: Deadline) -> Result<Option<Vec<Bypassing>>, Explanation> {
    match converse(&connect_to_agent, Ask::Bypassing {}, deadline).map(|(answer, _)| answer.reply) {
        Ok(Reply::Bypassing(pods)) => Ok(Some(pods)),
        Ok(Reply::Found(_) | Reply::Owner(_) | Reply::Heard {} | Reply::Decided(_)) => {
            Err(unavailable("it answers something else"))
        }
        Ok(Reply::Refused(refusal)) => Err(refusal.into()),
        Err(_) if !Path::new(paths::AGENT_SOCKET).exists() => Ok(None),
        Err(why) => Err(unavailable(&why)),
    }
}

/// How the last ADD of a pod ended, where the agent is there and remembers it.
pub fn last_outcome(uid: &str, deadline: Deadline) -> Option<Outcome> {
    let ask = Ask::Decided { uid: uid.into() };
    match converse(&connect_to_agent, ask, deadline).ok()?.0.reply {
        Reply::Decided(mut outcomes) => outcomes.pop(),
        Reply::Found(_)
        | Reply::Refused(_)
        | Reply::Bypassing(_)
        | Reply::Owner(_)
        | Reply::Heard {} => None,
    }
}

/// Tells what came of an ADD that no conversation is about. Where the agent does not hear it, it is kept for when it is back, within
/// bounds, if one was ever installed.
pub fn tell(outcome: Outcome) {
    /// The agent has nothing to look up for it.
    const AT_ONCE: Duration = Duration::from_millis(500);
    let question = Question::new(Ask::Report(Box::new(outcome)));
    let heard = exchange(&connect_to_agent, &question, Deadline::after(AT_ONCE));
    if matches!(
        &heard,
        Ok((
            Answer {
                reply: Reply::Heard {},
                ..
            },
            _
        ))
    ) {
        return;
    }
    if let Ok(line) = serde_json::to_vec(&question)
        && let Ok(Some(Installed {
            uninstalled: false, ..
        })) = Installed::load()
    {
        outcomes::keep(&line);
    }
}

/// Whether it takes connections.
pub fn listens() -> bool {
    connect().is_ok()
}

impl Conversation {
    /// Reports the outcome to the agent (`None` for `explain`). Best effort: never blocks. Returns whether the agent is still there.
    pub fn report(mut self, report: Option<&Report>) -> bool {
        let Ok(mut line) = serde_json::to_vec(&report) else {
            return false;
        };
        line.push(b'\n');
        let sent = self.0.set_nonblocking(true);
        sent.and_then(|()| self.0.write_all(&line)).is_ok()
    }
}

/// Why there is no pod.
enum LookUpError {
    /// It does not listen, went away, or says what we do not understand.
    Unavailable(String),
    /// The agent refuses, and says why.
    Refused(Explanation),
}

fn attempt(
    connect: Connect<'_>,
    pod: &PodRef,
    profile: Option<&str>,
    deadline: Deadline,
) -> Result<AgentAnswer, LookUpError> {
    let PodRef {
        namespace,
        name,
        uid,
    } = pod.clone();
    let millis = deadline.left().as_millis() as u64;
    let ask = Ask::LookUp(LookUp {
        namespace,
        name,
        uid,
        profile: profile.map(Into::into),
        millis,
    });
    let (Answer { version, reply }, conversation) =
        converse(connect, ask, deadline).map_err(LookUpError::Unavailable)?;
    match reply {
        Reply::Found(_) if version < WHOLE_PODS => {
            conversation.report(None);
            Err(LookUpError::Unavailable(format!(
                "it is of an older version (it speaks {version}, we speak {VERSION}) and does not tell all of the pod that decides"
            )))
        }
        Reply::Found(governed) => {
            let (found, governing) = governed.into_found().map_err(LookUpError::Unavailable)?;
            Ok(AgentAnswer {
                found,
                governing,
                conversation,
            })
        }
        Reply::Refused(refusal) => Err(LookUpError::Refused(refusal.into())),
        Reply::Bypassing(_) | Reply::Owner(_) | Reply::Heard {} | Reply::Decided(_) => {
            Err(LookUpError::Unavailable("it answers something else".into()))
        }
    }
}

/// One question, one answer; why not, in words. An agent that is not upgraded yet is asked again in its version.
fn converse(
    connect: Connect<'_>,
    ask: Ask,
    deadline: Deadline,
) -> Result<(Answer, Conversation), String> {
    let mut question = Question::new(ask);
    let answered = exchange(connect, &question, deadline)?;
    if answered.0.version != BEFORE {
        return Ok(answered);
    }
    question.version = BEFORE;
    exchange(connect, &question, deadline)
}

fn exchange(
    connect: Connect<'_>,
    question: &Question,
    deadline: Deadline,
) -> Result<(Answer, Conversation), String> {
    let said = |e: std::io::Error| {
        let is_late = matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        if is_late {
            "it does not answer in time".to_owned()
        } else {
            e.to_string()
        }
    };
    let mut stream = connect()?;
    let within = Some(deadline.left().max(Duration::from_millis(1)));
    stream
        .set_read_timeout(within)
        .and_then(|()| stream.set_write_timeout(within))
        .map_err(said)?;
    let mut line = serde_json::to_vec(question).map_err(|e| e.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).map_err(said)?;
    line.clear();
    BufReader::new(&stream)
        .take(LONGEST_ANSWER as u64)
        .read_until(b'\n', &mut line)
        .map_err(said)?;
    if line.is_empty() {
        return Err("it hung up".into());
    }
    let answer: Answer =
        serde_json::from_slice(&line).map_err(|e| format!("its answer cannot be read: {e}"))?;
    if !wire::is_spoken(answer.version) {
        return Err(format!(
            "it speaks version {}, we speak {}",
            answer.version, VERSION
        ));
    }
    Ok((answer, Conversation(stream)))
}

/// How the agent is reached.
type Connect<'a> = &'a dyn Fn() -> Result<UnixStream, String>;

/// Connects where nobody but root can have put a socket.
fn connect_to_agent() -> Result<UnixStream, String> {
    ensure_roots_own(Path::new(paths::RUN))?;
    connect().map_err(|e| e.to_string())
}

/// Connects, or fails at once: one that has no place for us hangs.
pub(crate) fn connect() -> std::io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(paths::AGENT_SOCKET)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Nobody but root can put a socket there.
fn ensure_roots_own(directory: &Path) -> Result<(), String> {
    match std::fs::symlink_metadata(directory) {
        Ok(_) if crate::node::state::is_private(directory) => Ok(()),
        Ok(_) => Err(format!(
            "{} is not a directory of root's alone",
            directory.display()
        )),
        Err(e) => Err(format!("{}: {e}", directory.display())),
    }
}

fn unavailable(why: &str) -> Explanation {
    let cause = format!(
        "the node agent does not answer on {}: {why}",
        paths::AGENT_SOCKET
    );
    Reason::AgentUnavailable.because(cause).remedy(
        "check the mesh-optin agent on this node; where it was removed for good, run mesh-optin agent uninstall on the node",
    )
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use serde_json::{Value, json};

    use super::*;

    /// What comes of an attempt at an agent that gives these answers to connection after connection, and what it was asked.
    fn attempted(answers: &[Value]) -> (Result<AgentAnswer, LookUpError>, Vec<Value>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let pod = PodRef {
            namespace: "team".into(),
            name: "web".into(),
            uid: Some("1".into()),
        };
        thread::scope(|scope| {
            let agent = scope.spawn(move || {
                let mut asked = Vec::new();
                for answer in answers {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut line = String::new();
                    BufReader::new(&stream).read_line(&mut line).unwrap();
                    asked.push(serde_json::from_str(&line).unwrap());
                    if !answer.is_null() {
                        stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
                    }
                }
                asked
            });
            let connect = || UnixStream::connect(&path).map_err(|e| e.to_string());
            let deadline = Deadline::after(Duration::from_secs(5));
            let heard = attempt(&connect, &pod, Some("p"), deadline);
            (heard, agent.join().unwrap())
        })
    }

    fn answer(version: u32, reply: Value) -> Value {
        json!({"version": version, "reply": reply})
    }

    fn found() -> Value {
        let (pod, namespace) = (
            json!({"metadata": {"uid": "1"}}),
            json!({"metadata": {"name": "team"}}),
        );
        let profile = json!({"origin": "builtIn", "object": null});
        json!({"found": {"pod": pod, "namespace": namespace, "profile": profile}})
    }

    #[test]
    fn an_answer_has_the_pod_its_namespace_and_its_profile() {
        let (heard, asked) = attempted(&[answer(VERSION, found())]);
        let Ok(heard) = heard else {
            panic!("{asked:?}")
        };
        assert_eq!(heard.found.pod.metadata.uid, "1");
        assert_eq!(heard.found.namespace.metadata.name, "team");
        assert!(heard.governing.profile.is_ok());
        let look_up = &asked[0]["ask"]["lookUp"];
        assert_eq!(asked[0]["version"], VERSION);
        assert_eq!(
            (&look_up["name"], &look_up["profile"]),
            (&json!("web"), &json!("p"))
        );
    }

    #[test]
    fn an_older_agent_is_asked_in_its_version_but_does_not_tell_enough() {
        let (heard, asked) = attempted(&[answer(BEFORE, found()), answer(BEFORE, found())]);
        let versions: Vec<_> = asked.iter().map(|asked| asked["version"].clone()).collect();
        assert_eq!(versions, [json!(VERSION), json!(BEFORE)]);
        let Err(LookUpError::Unavailable(why)) = heard else {
            panic!("{asked:?}")
        };
        assert!(why.contains("older version"), "{why}");
    }

    #[test]
    fn a_refusal_is_the_agents_word_and_anything_else_is_no_answer() {
        let refused = json!({"refused": {"reason": "PodNotFound", "cause": "c"}});
        let (heard, _) = attempted(&[answer(VERSION, refused)]);
        let Err(LookUpError::Refused(why)) = heard else {
            panic!("it was not refused")
        };
        assert_eq!(why.reason, Reason::PodNotFound);
        for (answer, cause) in [
            (
                answer(VERSION, json!({"heard": {}})),
                "it answers something else",
            ),
            (answer(99, found()), "it speaks version 99"),
            (json!({"version": VERSION}), "its answer cannot be read"),
            (Value::Null, "it hung up"),
        ] {
            let (heard, _) = attempted(std::slice::from_ref(&answer));
            let Err(LookUpError::Unavailable(why)) = heard else {
                panic!("{answer}")
            };
            assert!(why.contains(cause), "{answer}: {why}");
        }
    }
}

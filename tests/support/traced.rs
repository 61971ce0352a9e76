//! A call under strace: what it asked of the kernel, and what is made of it on the way.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use super::lab::{Call, Node};

/// How it ended, and what it did.
pub struct Traced {
    /// Killed by SIGKILL.
    pub killed: bool,
    /// What it gave.
    pub call: Option<Call>,
    /// Each system call as `<thread> <name>(...`, in order; a sent message is followed by its bytes.
    lines: Vec<String>,
}

/// A message that was sent.
pub struct Sent {
    /// The how manieth `sendto` of its thread it was.
    nth: usize,
    /// The how manieth `recvfrom` of its thread got the answer.
    answered: usize,
    pub bytes: Vec<u8>,
}

/// An ADD. `inject` as strace takes it, such as `socket:error=EPERM:when=3` (of each thread the third); one for each system call.
pub fn traced_add(node: &Node, netns: &str, args: &str, config: &str, inject: &[String]) -> Traced {
    // programs that it starts are left alone from there on
    let mut command = strace(node, &["-b", "execve", "-e", "write=all"]);
    for inject in inject {
        command.args(["-e", &format!("inject={inject}")]);
    }
    command.arg("/mesh-optin");
    command.envs([
        ("CNI_COMMAND", "ADD"),
        ("CNI_NETNS", netns),
        ("CNI_ARGS", args),
        ("CNI_CONTAINERID", "c0ffee"),
        ("CNI_IFNAME", "net1"),
    ]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), config.as_bytes()).ok();
    // strace ends as what it traces ended
    let output = child.wait_with_output().unwrap();
    let killed = output.status.signal() == Some(9);
    let lines = std::fs::read_to_string(node.path("trace"))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    Traced {
        killed,
        call: (!killed).then(|| Call::of(output)),
        lines,
    }
}

/// strace on a node, with what it writes in /trace; what it traces is to follow.
fn strace(node: &Node, args: &[&str]) -> Command {
    node.install_libraries();
    node.install("/usr/bin/strace", "strace");
    let mut command = node.command("/strace", &["-f", "-qq", "-o", "/trace"]);
    command.args(args);
    command
}

/// The paths that a DEL opens.
pub fn opened_by_a_del(node: &Node, netns: &str) -> Vec<String> {
    let mut command = strace(node, &["-e", "trace=openat"]);
    command.arg("/mesh-optin");
    command.envs([
        ("CNI_COMMAND", "DEL"),
        ("CNI_NETNS", netns),
        ("CNI_CONTAINERID", "c0ffee"),
        ("CNI_IFNAME", "net1"),
    ]);
    assert!(command.stdin(Stdio::null()).status().unwrap().success());
    let text = std::fs::read_to_string(node.path("trace")).unwrap();
    text.lines()
        .filter_map(|line| Some(line.split_once('"')?.1.split_once('"')?.0.to_owned()))
        .collect()
}

impl Traced {
    /// How many system calls all threads made.
    pub fn count(&self) -> usize {
        let is_call = |line: &&String| {
            let call = line
                .split_once(' ')
                .map_or("", |(_, call)| call.trim_start());
            !line.starts_with(' ') && call.starts_with(|c: char| c.is_ascii_lowercase())
        };
        self.lines.iter().filter(is_call).count()
    }

    /// How often the busiest thread made each system call.
    pub fn calls(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::<(&str, &str), usize>::new();
        for line in self.lines.iter().filter(|l| !l.starts_with(' ')) {
            let Some((thread, call)) = line.split_once(' ') else {
                continue;
            };
            if let Some((name, _)) = call
                .trim_start()
                .split_once('(')
                .filter(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
            {
                *counts.entry((name, thread)).or_default() += 1;
            }
        }
        let mut most = BTreeMap::new();
        for ((name, _), count) in counts {
            most.entry(name)
                .and_modify(|n: &mut usize| *n = count.max(*n))
                .or_insert(count);
        }
        most
    }

    /// The programs that were started.
    pub fn programs(&self) -> Vec<&str> {
        self.lines
            .iter()
            .filter_map(|l| l.split_once("execve(\"")?.1.split('"').next())
            .collect()
    }

    /// Of the first call whose line has these words: the how manieth of its name and thread it was.
    pub fn nth(&self, name: &str, words: &str) -> usize {
        let mut counts = BTreeMap::<&str, usize>::new();
        let of_name = self.lines.iter().filter_map(|l| {
            l.split_once(' ')
                .filter(|(_, call)| call.trim_start().starts_with(&format!("{name}(")))
        });
        for (thread, call) in of_name {
            let count = counts.entry(thread).and_modify(|n| *n += 1).or_insert(1);
            if call.contains(words) {
                return *count;
            }
        }
        panic!("no {name} of {words}")
    }

    /// Everything that was sent.
    pub fn sent(&self) -> Vec<Sent> {
        let (mut sends, mut receives) = (
            BTreeMap::<&str, usize>::new(),
            BTreeMap::<&str, usize>::new(),
        );
        let (mut out, mut last) = (Vec::<Sent>::new(), false);
        for line in &self.lines {
            if let Some(dump) = line.strip_prefix(" | ") {
                if last {
                    let hexadecimal = dump.get(6..55).unwrap_or_default().split_whitespace();
                    out.last_mut()
                        .unwrap()
                        .bytes
                        .extend(hexadecimal.map(|h| u8::from_str_radix(h, 16).unwrap()));
                }
                continue;
            }
            let (thread, call) = line.split_once(' ').unwrap_or((line, ""));
            last = call.trim_start().starts_with("sendto(");
            if last {
                let nth = *sends.entry(thread).and_modify(|n| *n += 1).or_insert(1);
                out.push(Sent {
                    nth,
                    answered: receives.get(thread).copied().unwrap_or_default() + 1,
                    bytes: vec![],
                });
            } else if call.trim_start().starts_with("recvfrom(") {
                receives.entry(thread).and_modify(|n| *n += 1).or_insert(1);
            }
        }
        out
    }
}

/// What strace can write into a process's memory.
const MOST: usize = 1024;

impl Sent {
    /// The injection that makes another message of it: the kernel answers that one.
    pub fn with(&self, at: usize, bytes: &[u8]) -> String {
        let changed: Vec<u8> = self.bytes[..at].iter().chain(bytes).copied().collect();
        assert!(changed.len() <= MOST);
        format!(
            "sendto:poke_enter=@arg2={}:when={}",
            hexadecimal(&changed),
            self.nth
        )
    }

    /// The injection that makes the kernel's refusal of it the refusal of one of its parts, a netlink message that has `words`.
    pub fn refused(&self, words: &[u8], errno: i32) -> String {
        let mut rest = &self.bytes[..];
        while !rest.is_empty() {
            let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            let (message, others) = rest.split_at(length.next_multiple_of(4).min(rest.len()));
            if message.windows(words.len()).any(|w| w == words) {
                // NLMSG_ERROR with the header of the message that it is about; as long as that about the first one, which the kernel refused
                let header = &message[..16];
                let first = u32::from_ne_bytes(self.bytes[..4].try_into().unwrap());
                let answer = [
                    &(first + 20).to_ne_bytes()[..],
                    &[2, 0, 0, 1],
                    &header[8..12],
                    &[0; 4],
                    &(-errno).to_ne_bytes(),
                    header,
                ]
                .concat();
                return format!(
                    "recvfrom:poke_exit=@arg2={}:when={}",
                    hexadecimal(&answer),
                    self.answered
                );
            }
            rest = others;
        }
        panic!("no message has {words:?}")
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

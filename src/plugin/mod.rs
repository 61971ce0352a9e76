//! The plugin: what a CNI call does, in which order, by one deadline.

mod add;
mod check;
mod del;
mod redirect;
mod watchdog;

use std::{
    io::{Read, Write},
    panic::PanicHookInfo,
    process::ExitCode,
};

use self::watchdog::Watchdog;
use crate::{
    cni::{self, Attached, Command, Config, Environment, RequestError, Version},
    deadline::Deadline,
    node::{NodeConfig, profiles},
    reason::{Explanation, Reason, quote},
    source,
};

/// CNI: the plugin is not available (STATUS).
const NOT_AVAILABLE: u32 = 50;
/// CNI: incompatible version.
const INCOMPATIBLE: u32 = 1;

/// Answers one call: reads stdin, writes the answer to stdout, gives the exit code. Any failure, a panic among them, is a CNI error;
/// DEL always succeeds.
pub fn run(environment: &Environment) -> ExitCode {
    let command = Command::parse(&environment.command);
    on_panic(command, Version::V1_1_0);
    let watchdog = Watchdog::start(move || {
        end(command, Version::V1_1_0, &Reason::DeadlineExceeded.because("the kernel or the node's disk did not answer in time"));
    });
    // Multus's daemon may start us with a working directory outside of our root.
    nix::unistd::chdir("/").ok();
    if command == Some(Command::Del) {
        watchdog.within(NodeConfig::default().deadline);
        del::del(environment);
        return ExitCode::SUCCESS;
    }
    let node = NodeConfig::load();
    let of_node = node.clone().unwrap_or_default();
    let deadline = Deadline::after(of_node.deadline);
    watchdog.within(deadline.left());
    log_to_stderr(of_node.log_level);
    let (output, exit) = match answer(command, environment, node, deadline) {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err((version, Failure { code, explanation })) => {
            let pod = Attached::parse(environment).ok().and_then(|a| a.pod);
            let (namespace, name) = pod.as_ref().map_or(("", ""), |p| (&p.namespace, &p.name));
            tracing::error!(
                command = command.map_or("?", Command::as_str),
                namespace,
                name,
                reason = explanation.reason.as_str(),
                "{explanation}"
            );
            (cni::error(version, code, &explanation.to_string()), ExitCode::FAILURE)
        }
    };
    watchdog.answer();
    print(&output);
    exit
}

/// A failed call: the CNI code, and why.
struct Failure {
    code: u32,
    explanation: Explanation,
}

impl From<Explanation> for Failure {
    fn from(explanation: Explanation) -> Self {
        Self { code: explanation.reason.cni_code(), explanation }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self { code: error.code, explanation: error.explanation }
    }
}

fn answer(
    command: Option<Command>,
    environment: &Environment,
    node: Result<NodeConfig, Explanation>,
    deadline: Deadline,
) -> Result<String, (Version, Failure)> {
    let config = Config::parse(&read_stdin());
    let version = config.as_ref().map_or(Version::V1_1_0, |c| c.version);
    if command == Some(Command::Version) {
        return Ok(cni::versions(version)); // also to a runtime that is newer than we are
    }
    let config = config.map_err(|e| (version, e.into()))?;
    on_panic(command, version);
    let at_least = |oldest: Version, verb| {
        let explanation = || Reason::InvalidRequest.because(format!("cniVersion {version} does not know {verb}"));
        if version < oldest { Err(Failure { code: INCOMPATIBLE, explanation: explanation() }) } else { Ok(()) }
    };
    let answer = match command {
        Some(Command::Add) => add::add(environment, &config, node, deadline),
        Some(verb @ Command::Check) => at_least(Version::V0_4_0, verb).and_then(|()| check::check(environment, deadline)),
        Some(verb @ Command::Status) => at_least(Version::V1_1_0, verb).and_then(|()| status(node)),
        Some(verb @ Command::Gc) => at_least(Version::V1_1_0, verb).map(|()| del::gc()),
        Some(Command::Version | Command::Del) | None => {
            let command = quote(&environment.command.to_string_lossy());
            Err(Failure { code: 4, explanation: Reason::InvalidRequest.because(format!("CNI_COMMAND {command} is no CNI verb")) })
        }
    };
    answer.map_err(|failure| (version, failure))
}

fn read_stdin() -> Vec<u8> {
    let mut stdin = Vec::new();
    // one byte more than is allowed, so that too much is noticed; what cannot be read is not valid either
    std::io::stdin().lock().take(cni::LARGEST_CONFIG as u64 + 1).read_to_end(&mut stdin).ok();
    stdin
}

/// STATUS: whether an ADD could be answered.
fn status(node: Result<NodeConfig, Explanation>) -> Result<String, Failure> {
    let ready = || {
        let node = node?;
        profiles(node.default_profile)?;
        source::any_available(&node)
    };
    ready().map(|()| String::new()).map_err(|explanation| Failure { code: NOT_AVAILABLE, explanation })
}

/// One line of JSON for each event, on stderr: stdout is the protocol's.
fn log_to_stderr(level: tracing::Level) {
    let log = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .log_internal_errors(false)
        .with_max_level(level)
        .with_writer(std::io::stderr);
    log.try_init().ok();
}

fn print(output: &str) {
    if !output.is_empty() {
        // nobody is left to tell
        writeln!(std::io::stdout().lock(), "{output}").ok();
    }
}

/// The runtime must never see a crash. A panic aborts the process after this hook, so the hook ends it.
fn on_panic(command: Option<Command>, version: Version) {
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        let place = panic.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("unknown");
        end(command, version, &Reason::Internal.because(format!("panic{place}: {what}")));
    }));
}

/// Ends the process with an error; a DEL with success.
fn end(command: Option<Command>, version: Version, explanation: &Explanation) {
    if command == Some(Command::Del) {
        std::process::exit(0);
    }
    print(&cni::error(version, explanation.reason.cni_code(), &explanation.to_string()));
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Run by the test below, in a process of its own.
    #[test]
    #[ignore = "it ends its process"]
    fn a_call_that_panics() {
        on_panic(Some(Command::Add), Version::V1_0_0);
        std::thread::scope(|scope| scope.spawn(|| panic!("on \"any\" thread\n")).join()).ok();
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a panic ends its process")]
    fn a_panic_becomes_a_cni_error() {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        let output = process.args(["--exact", "plugin::tests::a_call_that_panics", "--ignored", "--nocapture"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let stdout = String::from_utf8(output.stdout).unwrap();
        let json = stdout.lines().find(|l| l.contains("{\"")).unwrap();
        let error: serde_json::Value = serde_json::from_str(&json[json.find("{\"").unwrap()..]).unwrap();
        assert_eq!((&error["code"], &error["cniVersion"]), (&126.into(), &"1.0.0".into()));
        let message = error["msg"].as_str().unwrap();
        assert!(message.starts_with("Internal: panic at src/plugin/mod.rs:") && message.contains(r#"on "any" thread\n"#), "{message}");
    }
}

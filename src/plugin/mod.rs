//! The plugin: what a CNI call does, in which order, by one deadline.

mod add;
mod check;
mod del;
mod redirect;

use std::{
    io::{Read, Write},
    panic::PanicHookInfo,
    process::ExitCode,
};

use crate::{
    cni::{self, Command, Config, Environment, RequestError, Version},
    node::{NodeConfig, profiles},
    reason::{Explanation, Reason},
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
    // Multus's daemon may start us with a working directory outside of our root.
    nix::unistd::chdir("/").ok();
    if command == Some(Command::Del) {
        del::del(environment);
        return ExitCode::SUCCESS;
    }
    match answer(command, environment) {
        Ok(output) => {
            print(&output);
            ExitCode::SUCCESS
        }
        Err((version, failure)) => {
            print(&cni::error(version, failure.code, &failure.explanation.to_string()));
            ExitCode::FAILURE
        }
    }
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

fn answer(command: Option<Command>, environment: &Environment) -> Result<String, (Version, Failure)> {
    let config = read_config().map_err(|e| (Version::V1_1_0, e.into()))?;
    let version = config.version;
    on_panic(command, version);
    let at_least = |oldest: Version, verb| {
        let explanation = || Reason::InvalidRequest.because(format!("cniVersion {version} does not know {verb}"));
        if version < oldest { Err(Failure { code: INCOMPATIBLE, explanation: explanation() }) } else { Ok(()) }
    };
    let answer = match command {
        Some(Command::Add) => add::add(environment, &config),
        Some(verb @ Command::Check) => at_least(Version::V0_4_0, verb).and_then(|()| check::check(environment)),
        Some(verb @ Command::Status) => at_least(Version::V1_1_0, verb).and_then(|()| status()),
        Some(verb @ Command::Gc) => at_least(Version::V1_1_0, verb).map(|()| del::gc()),
        Some(Command::Version) => Ok(cni::versions(version)),
        Some(Command::Del) | None => {
            let command = crate::reason::quote(&environment.command.to_string_lossy());
            Err(Failure { code: 4, explanation: Reason::InvalidRequest.because(format!("CNI_COMMAND {command} is no CNI verb")) })
        }
    };
    answer.map_err(|failure| (version, failure))
}

fn read_config() -> Result<Config, RequestError> {
    let mut stdin = Vec::new();
    // one byte more than is allowed, so that too much is noticed; what cannot be read is not valid either
    drop(std::io::stdin().lock().take(cni::LARGEST_CONFIG as u64 + 1).read_to_end(&mut stdin));
    Config::parse(&stdin)
}

/// STATUS: whether an ADD could be answered.
fn status() -> Result<String, Failure> {
    let ready = || {
        let config = NodeConfig::load()?;
        profiles(config.default_profile)?;
        source::any_available(&config)
    };
    ready().map(|()| String::new()).map_err(|explanation| Failure { code: NOT_AVAILABLE, explanation })
}

/// One line of JSON for each event, on stderr: stdout is the protocol's.
fn log_to_stderr(level: tracing::Level) {
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_target(false).with_max_level(level).with_writer(std::io::stderr);
    drop(log.try_init());
}

fn print(output: &str) {
    if !output.is_empty() {
        // nobody is left to tell
        drop(writeln!(std::io::stdout().lock(), "{output}"));
    }
}

/// The runtime must never see a crash. A panic aborts the process after this hook, so the hook ends it.
fn on_panic(command: Option<Command>, version: Version) {
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        if command == Some(Command::Del) {
            std::process::exit(0);
        }
        let place = panic.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("unknown");
        let explanation = Reason::Internal.because(format!("panic{place}: {what}"));
        print(&cni::error(version, explanation.reason.cni_code(), &explanation.to_string()));
        std::process::exit(1);
    }));
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

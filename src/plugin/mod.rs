//! The plugin: what a CNI call does, in which order, within one deadline.

mod add;
mod check;
mod course;
mod del;
mod memory;
mod watchdog;

use std::{
    io::{Read, Write},
    panic::PanicHookInfo,
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use self::{
    course::Course,
    watchdog::{AnswerOnce, Watchdog, run_watched},
};
use crate::{
    cni::{self, Attached, CniCommand, Config, Environment, RequestError, Version},
    deadline::Deadline,
    log,
    node::{NodeConfig, profiles, state},
    reason::{Explanation, Reason, quote},
    source,
};

/// CNI: the plugin is not available (STATUS).
const NOT_AVAILABLE: u32 = 50;
/// CNI: incompatible version.
const INCOMPATIBLE: u32 = 1;

/// Answers one call: reads stdin, writes the answer to stdout, returns the exit code. Any failure, even a panic, is a CNI error;
/// DEL always succeeds.
pub fn run(environment: Environment) -> ExitCode {
    memory::one_heap();
    let environment = Arc::new(environment);
    let command = environment
        .command
        .to_str()
        .and_then(|text| text.parse::<CniCommand>().ok());
    let end = Ending {
        command,
        environment: environment.clone(),
        begun: Deadline::after(NodeConfig::default().deadline),
        right: AnswerOnce::default(),
    };
    end.on_panic(Version::V1_1_0);
    let (of_call, late) = (end.clone(), end.clone());
    let late = move |version| {
        let cause =
            "the call's input, the kernel or the node's disk kept us waiting until the deadline";
        let may_answer = late.command == Some(CniCommand::Del) || late.right.try_take();
        may_answer.then(|| late.end(version, &Reason::DeadlineExceeded.because(cause)))
    };
    let done = run_watched(move |watchdog| call(&environment, &of_call, watchdog), late);
    done.unwrap_or_else(|| {
        if end.right.try_take() {
            end.end(
                Version::V1_1_0,
                &Reason::KernelRefused.because("starting a thread"),
            )
        }
        ExitCode::FAILURE // it has answered, as far as it could
    })
}

/// The call itself.
fn call(environment: &Environment, end: &Ending, watchdog: &Watchdog<ExitCode>) -> ExitCode {
    memory::prepare();
    let command = end.command;
    // Multus's daemon may start us with a working directory outside of our root.
    nix::unistd::chdir("/").ok();
    if command == Some(CniCommand::Del) {
        watchdog.set_deadline(NodeConfig::default().deadline, Version::V1_1_0);
        del::del(environment);
        return ExitCode::SUCCESS;
    }
    let node = NodeConfig::load();
    let of_node = node.clone().unwrap_or_default();
    let deadline = Deadline::after(of_node.deadline);
    watchdog.set_deadline(deadline.left(), Version::V1_1_0);
    log::to_stderr(of_node.log_level.into());
    let config = Config::parse(&read_stdin());
    let version = config.as_ref().map_or(Version::V1_1_0, |c| c.version);
    end.on_panic(version);
    watchdog.set_deadline(deadline.left(), version);
    let (output, exit) = match answer(command, environment, config, node, deadline) {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err(CallFailure { code, explanation }) => {
            let pod = Attached::parse(environment).ok().and_then(|a| a.pod);
            let (namespace, name) = pod.as_ref().map_or(("", ""), |p| (&p.namespace, &p.name));
            tracing::error!(
                command = command.map_or("?", CniCommand::as_str),
                namespace,
                name,
                reason = explanation.reason.as_str(),
                "{explanation}"
            );
            (
                cni::error(version, code, &explanation.to_string()),
                ExitCode::FAILURE,
            )
        }
    };
    end.right.take();
    print(&output);
    exit
}

/// A failed call: the CNI code, and why.
struct CallFailure {
    code: u32,
    explanation: Explanation,
}

impl From<Explanation> for CallFailure {
    fn from(explanation: Explanation) -> Self {
        Self {
            code: explanation.reason.cni_code(),
            explanation,
        }
    }
}

impl From<RequestError> for CallFailure {
    fn from(error: RequestError) -> Self {
        Self {
            code: error.code,
            explanation: error.explanation,
        }
    }
}

fn answer(
    command: Option<CniCommand>,
    environment: &Environment,
    config: Result<Config, RequestError>,
    node: Result<NodeConfig, Explanation>,
    deadline: Deadline,
) -> Result<String, CallFailure> {
    let version = config.as_ref().map_or(Version::V1_1_0, |c| c.version);
    if command == Some(CniCommand::Version) {
        return Ok(cni::versions(version)); // also to a runtime that is newer than we are
    }
    if command == Some(CniCommand::Add) {
        return add::add(environment, config, node, deadline);
    }
    config?;
    let at_least = |oldest: Version, verb| {
        let explanation =
            || Reason::InvalidRequest.because(format!("cniVersion {version} does not know {verb}"));
        if version < oldest {
            Err(CallFailure {
                code: INCOMPATIBLE,
                explanation: explanation(),
            })
        } else {
            Ok(())
        }
    };
    match command {
        Some(verb @ CniCommand::Check) => {
            at_least(Version::V0_4_0, verb).and_then(|()| check::check(environment, deadline))
        }
        Some(verb @ CniCommand::Status) => {
            at_least(Version::V1_1_0, verb).and_then(|()| status(node))
        }
        Some(verb @ CniCommand::Gc) => at_least(Version::V1_1_0, verb).map(|()| del::gc()),
        Some(CniCommand::Add | CniCommand::Version | CniCommand::Del) | None => {
            let command = quote(&environment.command.to_string_lossy());
            Err(CallFailure {
                code: 4,
                explanation: Reason::InvalidRequest
                    .because(format!("CNI_COMMAND {command} is not a CNI verb")),
            })
        }
    }
}

fn read_stdin() -> Vec<u8> {
    let mut stdin = Vec::new();
    // one byte more than is allowed, so that too much is noticed; what cannot be read is not valid either
    std::io::stdin()
        .lock()
        .take(cni::LARGEST_CONFIG as u64 + 1)
        .read_to_end(&mut stdin)
        .ok();
    stdin
}

/// STATUS: whether an ADD could be answered.
fn status(node: Result<NodeConfig, Explanation>) -> Result<String, CallFailure> {
    let ready = || {
        let node = node?;
        profiles(node.default_profile)?;
        state::check()?;
        source::any_available(&node)
    };
    ready()
        .map(|()| String::new())
        .map_err(|explanation| CallFailure {
            code: NOT_AVAILABLE,
            explanation,
        })
}

fn print(output: &str) {
    if !output.is_empty() {
        // there is no one left to report it to
        writeln!(std::io::stdout().lock(), "{output}").ok();
    }
}

/// Ends a call that cannot end by itself.
#[derive(Clone)]
struct Ending {
    command: Option<CniCommand>,
    environment: Arc<Environment>,
    /// Starts the clock.
    begun: Deadline,
    right: AnswerOnce,
}

impl Ending {
    /// The runtime must never see a crash. A panic aborts the process after this hook, so the hook ends it.
    fn on_panic(&self, version: Version) {
        let end = self.clone();
        std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
            let place = panic
                .location()
                .map(|l| format!(" at {}:{}", l.file(), l.line()))
                .unwrap_or_default();
            let what = panic.payload_as_str().unwrap_or("unknown");
            end.now(
                version,
                &Reason::Internal.because(format!("panic{place}: {what}")),
            );
        }));
    }

    /// Reports to the agent how an ADD ended. Whatever blocked the call may block that as well: then it is not reported.
    fn tell(&self, explanation: &Explanation) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let mut course = Course::new(self.begun);
        course.pod = Attached::parse(&self.environment).ok().and_then(|a| a.pod);
        let (explanation, (told, wait)) = (explanation.clone(), mpsc::channel());
        let tell = move || {
            course.report(Err(&explanation));
            told.send(()).ok();
        };
        if thread::Builder::new().spawn(tell).is_ok() {
            wait.recv_timeout(PATIENCE).ok();
        }
    }

    /// Ends the process with an error, unless another thread is about to end it.
    fn now(&self, version: Version, explanation: &Explanation) -> ! {
        self.right.take();
        self.end(version, explanation)
    }

    /// Ends the process with an error; a DEL with success. The right to do so is taken.
    fn end(&self, version: Version, explanation: &Explanation) -> ! {
        if self.command == Some(CniCommand::Del) {
            std::process::exit(0);
        }
        if self.command == Some(CniCommand::Add) {
            self.tell(explanation);
        }
        print(&cni::error(
            version,
            explanation.reason.cni_code(),
            &explanation.to_string(),
        ));
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a panic ends its process, so this test runs itself in another"
    )]
    fn a_panic_becomes_a_cni_error() {
        const IN_THE_OTHER: &str = "MESH_OPTIN_TEST_PANIC";
        if std::env::var_os(IN_THE_OTHER).is_some() {
            Ending {
                command: Some(CniCommand::Add),
                environment: Arc::default(),
                begun: Deadline::after(Duration::ZERO),
                right: AnswerOnce::default(),
            }
            .on_panic(Version::V1_0_0);
            std::thread::scope(|scope| scope.spawn(|| panic!("on \"any\" thread\n")).join()).ok();
        }
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        process
            .args([
                "--exact",
                "plugin::tests::a_panic_becomes_a_cni_error",
                "--nocapture",
            ])
            .env(IN_THE_OTHER, "1");
        let output = process.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let stdout = String::from_utf8(output.stdout).unwrap();
        let json = stdout.lines().find(|l| l.contains("{\"")).unwrap();
        let error: serde_json::Value =
            serde_json::from_str(&json[json.find("{\"").unwrap()..]).unwrap();
        assert_eq!(
            (&error["code"], &error["cniVersion"]),
            (&126.into(), &"1.0.0".into())
        );
        let message = error["msg"].as_str().unwrap();
        assert!(
            message.starts_with("Internal: panic at src/plugin/mod.rs:")
                && message.contains(r#"on "any" thread\n"#),
            "{message}"
        );
    }
}

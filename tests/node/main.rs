//! On the real stack: kube-apiserver, kubelet, containerd, and Multus thin, thick and as on OpenShift call the program as on any node.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod agent;
mod deleting;
mod hostile;
mod istio;
mod istio_cni;
mod migrating;
mod openshift;
mod opting;
mod proxies;
mod rebooting;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
mod up_and_down;
mod waiting;

use std::{
    any::Any,
    io::Write as _,
    os::unix::net::UnixStream,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use serde_json::json;
use support::{
    lab::CONFIG,
    stack::{BLOCKED, Stack},
    stack_pod::Pod,
};

/// The namespaces and processes of this machine: read by tests that make some, written by those that see whether any are left.
static MACHINE: RwLock<()> = RwLock::new(());

const THIN: &str = "thin";
const THICK: &str = "thick";

/// What is tried on a node.
struct Scenario {
    name: &'static str,
    run: fn(&Stack),
    /// It changes what other pods need, so that nothing else may run beside it.
    alone: bool,
    /// The Multus that it is about, if it is about one.
    only: Option<&'static str>,
}

const fn together(name: &'static str, run: fn(&Stack)) -> Scenario {
    Scenario {
        name,
        run,
        alone: false,
        only: None,
    }
}

const fn alone(name: &'static str, run: fn(&Stack)) -> Scenario {
    Scenario {
        name,
        run,
        alone: true,
        only: None,
    }
}

impl Scenario {
    /// With this Multus alone: the other has nothing of it, or would show nothing more.
    const fn only_with(self, multus: &'static str) -> Self {
        Self {
            only: Some(multus),
            ..self
        }
    }
}

const SCENARIOS: [&[Scenario]; 10] = [
    agent::SCENARIOS,
    opting::SCENARIOS,
    hostile::SCENARIOS,
    proxies::SCENARIOS,
    refusals::SCENARIOS,
    waiting::SCENARIOS,
    deleting::SCENARIOS,
    istio::SCENARIOS,
    migrating::SCENARIOS,
    rebooting::SCENARIOS,
];
/// How much of a failure's message is repeated at the end, in characters.
const SHOWN: usize = 2000;
/// How many scenarios that do not disturb each other run at once.
const AT_ONCE: usize = 4;

#[derive(Clone)]
enum Outcome {
    Passed(Duration),
    /// With what its panic said.
    Failed(Duration, String),
    NotRun,
}

impl Outcome {
    fn of(ended: std::thread::Result<()>, took: Duration) -> Self {
        match ended {
            Ok(()) => Self::Passed(took),
            Err(panic) => Self::Failed(took, said(&*panic)),
        }
    }
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
    said.unwrap_or_default().to_owned()
}

/// Runs every scenario that is asked for and prints them as a table.
fn all(multus: &'static str, scenarios: &[&'static [Scenario]], prepare: fn(&Stack)) {
    #[allow(clippy::disallowed_methods, reason = "for who works on one of them")]
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let is_wanted = |s: &&Scenario| s.name.contains(&wanted);
    let is_known = SCENARIOS.into_iter().flatten().any(|s| is_wanted(&s))
        || openshift::SCENARIOS.iter().any(|s| is_wanted(&s));
    assert!(is_known, "there is no scenario {wanted:?}");
    let scenarios: Vec<_> = scenarios.iter().copied().flatten().collect();
    let possible = |at: &usize| {
        let scenario = scenarios[*at];
        scenario.only.is_none_or(|only| only == multus) && is_wanted(&scenario)
    };
    let (alone, together): (Vec<_>, Vec<_>) = (0..scenarios.len())
        .filter(possible)
        .partition(|at| scenarios[*at].alone);
    if alone.is_empty() && together.is_empty() {
        return;
    }
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let started = Instant::now();
    let stack = Stack::start(multus);
    prepare(&stack);
    let up = started.elapsed();
    let outcomes = Mutex::new(vec![Outcome::NotRun; scenarios.len()]);
    let run = |at: usize| {
        let started = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| (scenarios[at].run)(&stack)));
        outcomes.lock().unwrap()[at] = Outcome::of(ended, started.elapsed());
    };
    let queue = Mutex::new(together.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(at) = queue.lock().unwrap().next() else {
                        return;
                    };
                    run(at);
                }
            });
        }
    });
    alone.into_iter().for_each(run);
    let outcomes = outcomes.into_inner().unwrap();
    let mut table = format!(
        "\n{multus} Multus: up in {:.1} s, all scenarios in {:.1} s\n",
        up.as_secs_f32(),
        (started.elapsed() - up).as_secs_f32()
    );
    for (scenario, outcome) in scenarios.iter().zip(&outcomes) {
        let outcome = match outcome {
            Outcome::Passed(took) => format!("ok      {:5.1} s", took.as_secs_f32()),
            Outcome::Failed(took, _) => format!("FAILED  {:5.1} s", took.as_secs_f32()),
            Outcome::NotRun if scenario.only.is_some_and(|only| only != multus) => {
                "not for this   ".into()
            }
            Outcome::NotRun => "not asked for  ".into(),
        };
        table.push_str(&format!("  {multus:9}  {outcome}  {}\n", scenario.name));
    }
    for note in stack.notes.lock().unwrap().iter() {
        table.push_str(&format!("  {multus:9}  {note}\n"));
    }
    let mut failures = String::new();
    for (scenario, outcome) in scenarios.iter().zip(&outcomes) {
        if let Outcome::Failed(_, said) = outcome {
            let said = said.chars().take(SHOWN).collect::<String>();
            failures.push_str(&format!(
                "  {multus:9}  FAILED: {}: {said}\n",
                scenario.name
            ));
        }
    }
    // not by print!, which is shown of failing tests alone; failures last, where one looks
    let shown = format!("{table}{failures}");
    std::io::stdout().write_all(shown.as_bytes()).unwrap();
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn on_a_node_with_thin_multus() {
    all("thin", &SCENARIOS, |_| {});
}

#[test]
fn on_a_node_with_thick_multus() {
    all("thick", &SCENARIOS, |_| {});
}

#[test]
fn on_a_node_with_multus_as_on_openshift() {
    all("openshift", &[openshift::SCENARIOS], openshift::install);
}

/// A namespace that Istio injects, with our attachment.
fn enrolled(stack: &Stack, name: &str) {
    stack
        .cluster
        .namespace(name, &json!({"istio-injection": "enabled"}));
    stack.attachment(name, "mesh", Some(CONFIG));
}

/// Waits until nothing answers at the agent's socket.
fn agent_is_away(stack: &Stack) {
    let socket = stack.path("/run/mesh-optin/agent.sock");
    let is_away = || UnixStream::connect(&socket).is_err().then_some(());
    assert!(
        stack.wait_for(is_away).is_some(),
        "the agent is still there"
    );
}

/// Its connections, out and in, land at the sidecar, which knows where they were to go; those that the sidecar does not let through fail.
fn lands_at_the_sidecar(stack: &Stack, pod: &Pod) {
    stack.running(pod);
    let (out, inside, ip) = (
        stack.answered(pod),
        stack.answered_inside(pod),
        stack.ip(pod),
    );
    assert!(
        out.starts_with("15001 203.0.113.7:80 "),
        "{}: {out}",
        pod.name
    );
    assert!(
        inside.starts_with(&format!("15006 {ip}:8080 ")),
        "{}: {inside}",
        pod.name
    );
    stack.all_blocked(pod);
}

fn is_redirected(stack: &Stack, pod: &Pod) {
    stack.create(pod);
    lands_at_the_sidecar(stack, pod);
}

/// The same of several that are created at once.
fn are_redirected(stack: &Stack, pods: &[Pod]) {
    pods.iter().for_each(|pod| stack.create(pod));
    pods.iter().for_each(|pod| lands_at_the_sidecar(stack, pod));
}

fn is_left_alone(stack: &Stack, pod: &Pod) {
    stack.create(pod);
    stack.running(pod);
    let (out, inside, ip) = (
        stack.answered(pod),
        stack.answered_inside(pod),
        stack.ip(pod),
    );
    assert!(out.starts_with("80 203.0.113.7:80 "), "{out}");
    assert!(inside.starts_with(&format!("8080 {ip}:8080 ")), "{inside}");
    // what fails with a sidecar does not without
    let passes = || {
        let mut answers = stack.answers(pod, BLOCKED).into_iter();
        answers.find(|answer| answer.starts_with("81 203.0.113.7:81 "))
    };
    assert!(stack.wait_for(passes).is_some());
    assert!(stack.records(pod).is_empty());
}

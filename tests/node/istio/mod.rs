//! With the real Istio: istiod, its injector, and pilot-agent with Envoy in every pod of the mesh.

mod away;
mod injection;
mod lifecycle;
mod mesh;
mod traffic;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    time::Instant,
};

use self::mesh::Mesh;
use crate::{Scenario, agent::with_agent, alone, said};

pub(crate) const SCENARIOS: &[Scenario] = &[alone(
    "the real Istio: istiod injects, the plugin redirects, and its sidecars speak mTLS",
    |s| {
        with_agent(s, |agent| {
            let started = Instant::now();
            let mesh = Mesh::start(s, agent);
            let took = started.elapsed().as_secs_f32();
            s.note(format!("Istio: up after {took:.1} s"));
            let rows = [lifecycle::ROWS, traffic::ROWS, injection::ROWS].concat();
            let failed = [
                try_rows(&mesh, &rows, AT_ONCE),
                try_rows(&mesh, away::ROWS, 1),
            ]
            .concat();
            mesh.delete_servers();
            assert!(failed.is_empty(), "{}", failed.join("\n"));
        });
    },
)];

/// What is tried in the mesh.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    run: fn(&Mesh<'_>),
}

/// How many rows that do not disturb each other run at once.
const AT_ONCE: usize = 4;

/// Tries all of them, and notes how long each took; the names of those that failed, with what their panics said.
fn try_rows(mesh: &Mesh<'_>, rows: &[Row], at_once: usize) -> Vec<String> {
    let (queue, failed) = (Mutex::new(rows.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let Some(row) = queue.lock().unwrap().next() else {
                        return;
                    };
                    let started = Instant::now();
                    let ended = catch_unwind(AssertUnwindSafe(|| (row.run)(mesh)));
                    let took = started.elapsed().as_secs_f32();
                    let outcome = if ended.is_ok() { "ok" } else { "FAILED" };
                    let note = format!("Istio: {outcome:6} {took:6.1} s  {}", row.name);
                    mesh.s.note(note);
                    if let Err(panic) = ended {
                        let failure = format!("{}: {}", row.name, said(&*panic));
                        failed.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

//! The process metrics that every exporter has, under their usual names.

use std::path::Path;

use prometheus_client::{
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// Clock ticks per second in /proc.
const TICKS: f64 = 100.0;

/// The metrics that can be read now.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::default();
    let mut register = |name, help, value: Option<f64>| {
        if let Some(value) = value {
            registry.register(name, help, ConstGauge::new(value));
        }
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // the fields after the name, which may hold anything; the first of them is the third of all
    let after_name = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let fields: Vec<_> = after_name.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let seconds = || Some((field(14)? + field(15)?) / TICKS);
    let started = || Some(boot_time()? + field(22)? / TICKS);
    register(
        "process_start_time_seconds",
        "When this agent started, in seconds since 1970",
        started(),
    );
    let memory = || Some(field(24)? * 4096.0);
    register(
        "process_resident_memory_bytes",
        "Memory of this agent",
        memory(),
    );
    let open = std::fs::read_dir(Path::new("/proc/self/fd"));
    register(
        "process_open_fds",
        "Files that this agent has open",
        open.ok().map(|entries| entries.count() as f64),
    );
    if let Some(seconds) = seconds() {
        let counter = ConstCounter::new(seconds);
        registry.register(
            "process_cpu_seconds",
            "Processor time of this agent",
            counter,
        );
    }
    registry
}

fn boot_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.parse().ok()
}

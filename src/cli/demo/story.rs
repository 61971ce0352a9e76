//! What the demo shows: the workloads of the examples, what the plugin does to each, and where connections land.

use super::{
    node::{Landings, Node, WORLD},
    workload::workloads,
};
use crate::terminal::{Color, CommandFailure, Exit, colored, print, table};

/// On a node of its own: creates each workload's pod, calls the plugin, opens connections and prints the results.
pub(super) fn play() -> Result<Exit, CommandFailure> {
    let started = std::time::Instant::now();
    let node = Node::make()?;
    let workloads = workloads()?;
    let (mut shown, mut all_right) = (None, true);
    for (number, workload) in (0u8..).zip(&workloads) {
        let mut pod = node.start(number, workload)?;
        let landings = pod.connect()?;
        let redirected = pod.reason == "Redirected";
        all_right &= landings.are_right(redirected);
        let (color, metadata) = (
            if redirected {
                Color::Green
            } else {
                Color::Yellow
            },
            &workload.pod.metadata,
        );
        let name = colored(
            &format!("{}/{}", metadata.namespace, metadata.name),
            Color::Bold,
        );
        print(&format!(
            "Pod {name}: {} ({})\n{}\n",
            colored(&pod.reason, color),
            pod.message,
            table(&landings.rows())
        ));
        if redirected && shown.is_none() {
            shown = pod
                .rules()?
                .map(|rules| (format!("{}/{}", metadata.namespace, metadata.name), rules));
        }
    }
    if let Some((name, rules)) = shown {
        print(&format!(
            "The rules of {name}, read back from the kernel:\n{rules}\n"
        ));
    }
    let seconds = started.elapsed().as_secs_f32();
    if all_right {
        print(&format!(
            "{} pods in {seconds:.1} s. Every connection landed where it should; nothing of the demo stays on this machine.\n",
            workloads.len()
        ));
        Ok(Exit::Done)
    } else {
        Err(CommandFailure::failed(
            "a connection did not land where it should",
        ))
    }
}

impl Landings {
    fn rows(&self) -> [[String; 3]; 4] {
        let row = |who: &str, to: String, landed: &str| [who.to_owned(), to, meaning(landed)];
        [
            row("CONNECTION", "TO".into(), "LANDED AT"),
            row(
                "out, as the application (uid 1000)",
                WORLD.to_string(),
                &self.out_of_application,
            ),
            row(
                "in, from the world",
                "the pod's port 8080".into(),
                &self.into_pod,
            ),
            row(
                "out, as the sidecar (uid 1337)",
                WORLD.to_string(),
                &self.out_of_sidecar,
            ),
        ]
    }

    fn are_right(&self, redirected: bool) -> bool {
        let (out, into) = if redirected {
            ("pod:15001", "pod:15006")
        } else {
            ("world", "pod:8080")
        };
        self.out_of_application == out && self.into_pod == into && self.out_of_sidecar == "world"
    }
}

fn meaning(landed: &str) -> String {
    match landed {
        "world" => format!("{WORLD} itself"),
        "pod:15001" => "the sidecar's outbound port 15001".into(),
        "pod:15006" => "the sidecar's inbound port 15006".into(),
        "pod:8080" => "the application itself".into(),
        other => other.into(),
    }
}

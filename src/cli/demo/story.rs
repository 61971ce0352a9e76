//! What the demo shows: the workloads of the examples, what the plugin does to each, and where connections land.

use std::path::Path;

use serde_json::json;

use super::{
    Exit, Failure,
    node::{Landings, Pod as RunningPod, WORLD},
};
use crate::{
    cli::output::{Colour, coloured, say, table},
    kernel::Interfaces,
    mesh::{Namespace, Pod, Profile, assume_injected},
    source::manifests::{Object, parse},
};

const EXAMPLES: [(&str, &str); 2] = [
    ("examples/opt-in-by-namespace.yaml", include_str!("../../../examples/opt-in-by-namespace.yaml")),
    ("examples/opt-in-by-workload.yaml", include_str!("../../../examples/opt-in-by-workload.yaml")),
];

/// A workload of the examples as a pod that Istio's injector has seen.
pub(super) struct Workload {
    pub(super) pod: Pod,
    /// Its attachment's CNI configuration.
    pub(super) config: String,
}

/// Makes every workload's pod, calls the plugin, connects, tells.
pub(super) fn play(interfaces: &Interfaces) -> Result<Exit, Failure> {
    let started = std::time::Instant::now();
    let workloads = workloads()?;
    let (mut shown, mut all_right) = (None, true);
    for (number, workload) in (0u8..).zip(&workloads) {
        let mut pod = RunningPod::start(interfaces, number, workload)?;
        let landings = pod.connect()?;
        let redirected = pod.reason == "Redirected";
        all_right &= landings.are_right(redirected);
        let (colour, metadata) = (if redirected { Colour::Green } else { Colour::Yellow }, &workload.pod.metadata);
        let name = coloured(&format!("{}/{}", metadata.namespace, metadata.name), Colour::Bold);
        say(&format!("Pod {name}: {} ({})\n{}\n", coloured(&pod.reason, colour), pod.message, table(&landings.rows())));
        if redirected && shown.is_none() {
            shown = pod.rules()?.map(|rules| (format!("{}/{}", metadata.namespace, metadata.name), rules));
        }
    }
    if let Some((name, rules)) = shown {
        say(&format!("The rules of {name}, read back from the kernel:\n{rules}\n"));
    }
    let seconds = started.elapsed().as_secs_f32();
    if all_right {
        say(&format!(
            "{} pods in {seconds:.1} s. Every connection landed where it should; nothing of the demo stays on this machine.\n",
            workloads.len()
        ));
        Ok(Exit::Done)
    } else {
        Err(Failure::failed("a connection did not land where it should"))
    }
}

impl Landings {
    fn rows(&self) -> [[String; 3]; 4] {
        let row = |who: &str, to: String, landed: &str| [who.to_owned(), to, meaning(landed)];
        [
            row("CONNECTION", "TO".into(), "LANDED AT"),
            row("out, as the application (uid 1000)", WORLD.to_string(), &self.out_of_application),
            row("in, from the world", "the pod's port 8080".into(), &self.into_pod),
            row("out, as the sidecar (uid 1337)", WORLD.to_string(), &self.out_of_sidecar),
        ]
    }

    fn are_right(&self, redirected: bool) -> bool {
        let (out, into) = if redirected { ("pod:15001", "pod:15006") } else { ("world", "pod:8080") };
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

/// Reads the examples, puts their namespaces and pods where source `manifests` finds them.
fn workloads() -> Result<Vec<Workload>, Failure> {
    let profile = Profile::built_in();
    let mut workloads = Vec::new();
    for (path, text) in EXAMPLES {
        let objects = parse(text, Path::new(path)).map_err(Failure::failed)?;
        let namespace = objects.iter().find_map(|o| if let Object::Namespace(n) = o { Some(n) } else { None });
        let config = objects.iter().find_map(|o| if let Object::Attachment(a) = o { a.config.clone() } else { None });
        let (Some(namespace), Some(config)) = (namespace, config) else { return Err(Failure::failed(format!("{path} is incomplete"))) };
        write("Namespace", &namespace.metadata.name, &json!(namespace))?;
        for object in &objects {
            if let Object::Pod(pod) = object {
                workloads.push(workload(pod, namespace, &profile, &config)?);
            }
        }
    }
    Ok(workloads)
}

/// The pod as the injector and the API server would leave it: the source never assumes.
fn workload(template: &Pod, namespace: &Namespace, profile: &Profile, config: &str) -> Result<Workload, Failure> {
    let mut pod = assume_injected(template, namespace, profile).unwrap_or_else(|| template.clone());
    pod.metadata.uid = format!("demo-{}", pod.metadata.name);
    write("Pod", &format!("{}-{}", pod.metadata.namespace, pod.metadata.name), &json!(pod))?;
    Ok(Workload { pod, config: config.to_owned() })
}

fn write(kind: &str, name: &str, object: &serde_json::Value) -> Result<(), Failure> {
    let mut object = object.clone();
    object["kind"] = json!(kind);
    let path = format!("/manifests/{}-{name}.json", kind.to_lowercase());
    std::fs::write(&path, object.to_string()).map_err(|e| Failure::failed(format!("writing {path}: {e}")))
}

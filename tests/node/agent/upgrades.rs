//! The chart is upgraded and rolled back, from a released version to this one and back, while pods start and talk.

use serde_json::{Value, json};

use super::{
    daemonset::{import_image, import_image_of, restored},
    helm::{CHART, CRDS, VALUES, node_has_nothing, ready, remove_everything, values},
    rollout::{Meanwhile, meanwhile, rolled_out},
};
use crate::{
    Scenario, THICK, alone, enrolled, is_left_alone, is_redirected, lands_at_the_sidecar,
    support::{cluster::script, run, stack::Stack, stack_pod::Pod},
};

/// The version before this one.
const BEFORE: &str = "0.2.0";
const IMAGE_BEFORE: &str = "stack.test/mesh-optin:0.2.0";
/// The one from which there is only a way forward.
const FIRST: &str = "0.1.0";
const THIS: &str = env!("CARGO_PKG_VERSION");
const NAMESPACE: &str = "upgraded";

/// With one Multus alone: agent and chart are the same with both.
pub(super) const SCENARIO: Scenario = alone(
    "the chart is upgraded and rolled back with its CRDs first and last, and every pod stays as it was",
    |s| {
        restored(s, || {
            import_image(s, &[]);
            import_image_of(s, IMAGE_BEFORE, &program(BEFORE), &[]);
            enrolled(s, NAMESPACE);
            // a node of the first version, whose manifests make room for the chart
            s.cluster
                .enter(&[&script("install"), "/mnt", &program(FIRST)]);
            let pod = |name: &str| Pod::new(NAMESPACE, name, "mesh");
            let mut kept = vec![pod("of-first")];
            is_redirected(s, &kept[0]);
            remove_everything(s);
            let out = pod("out")
                .label("sidecar.istio.io/inject", "false")
                .without_sidecar();
            let release = Release::new(s);

            release.helm("install", Version::This, true);
            is_now(s, THIS);
            is_left_alone(s, &out);
            let Meanwhile { pods, blocked, looks, away } = meanwhile(s, NAMESPACE, || {
                for (number, step) in STEPS.into_iter().enumerate() {
                    release.take(step);
                    is_now(s, step.version());
                    let new = pod(&format!("of-step-{number}"));
                    is_redirected(s, &new);
                    kept.push(new);
                }
            });
            // an older version never takes the node from a newer one: it waits until that has ended, and ADDs wait for it
            assert!(away * 50 < looks, "of {looks} looks, {away} found no agent");
            let ways = STEPS.map(Step::version).join(", ");
            s.note(format!(
                "{FIRST} to {THIS}, then to {ways}: {pods} more pods redirected, {blocked} of their connections failed as they must, and all but {away} of {looks} looks found an agent"
            ));
            let of_kept = kept.iter().map(|pod| {
                lands_at_the_sidecar(s, pod);
                s.all_landed(pod, "15001 203.0.113.7:80 ")
            });
            let connections = of_kept.sum::<usize>() + s.all_landed(&out, "80 203.0.113.7:80 ");
            let blocked: usize = kept.iter().map(|pod| s.all_blocked(pod)).sum();
            s.note(format!(
                "of {connections} connections of {} pods that stayed meanwhile none landed elsewhere, and {blocked} more failed as they must",
                kept.len() + 1
            ));
            s.delete_all(&[kept, vec![out]].concat());
            release.helm_with("upgrade", Version::This, &["--set=uninstall=true"]);
            ready(s, "mesh-optin-uninstall");
            node_has_nothing(s);
            s.cluster
                .enter(&["helm", "uninstall", "mesh-optin", "--namespace=mesh-optin"]);
            remove_everything(s);
            s.cluster.enter(&["kubectl", "apply", "-f", CRDS]);
        });
    },
)
.only_with(THICK);

/// A way from one version to another.
#[derive(Clone, Copy)]
enum Step {
    /// To the chart of the version before, as after a bad upgrade without a revision to go back to.
    Down,
    /// To this chart; its CRDs are applied before.
    UpAfterCrds,
    /// To the revision before.
    Back,
    /// To this chart without CRDs, which are applied last.
    UpBeforeCrds,
}

const STEPS: [Step; 4] = [
    Step::Down,
    Step::UpAfterCrds,
    Step::Back,
    Step::UpBeforeCrds,
];

impl Step {
    fn version(self) -> &'static str {
        match self {
            Self::Down | Self::Back => BEFORE,
            Self::UpAfterCrds | Self::UpBeforeCrds => THIS,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Before,
    This,
}

/// The release of the chart on this node.
struct Release<'a> {
    stack: &'a Stack,
}

/// Where the node has the chart of the version before.
const CHART_BEFORE: &str = "/mnt/before/deploy/helm/mesh-optin";

impl<'a> Release<'a> {
    fn new(stack: &'a Stack) -> Self {
        let before = stack.cluster.directory.join("before");
        std::fs::create_dir_all(&before).unwrap();
        let versions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/versions");
        run(versions, &["deploy", BEFORE, before.to_str().unwrap()], "");
        Self { stack }
    }

    fn take(&self, step: Step) {
        let crds = || {
            let files = ["meshprofiles", "meshnodes"];
            let files = files.map(|kind| format!("{CRDS}/meshoptin.dev_{kind}.yaml"));
            let apply = ["kubectl", "apply", "-f", &files[0], "-f", &files[1]];
            self.stack.cluster.enter(&apply)
        };
        match step {
            Step::Down => self.helm("upgrade", Version::Before, true),
            Step::UpAfterCrds => {
                crds();
                self.helm("upgrade", Version::This, true);
            }
            Step::Back => {
                let back = [
                    "helm",
                    "rollback",
                    "mesh-optin",
                    "--namespace=mesh-optin",
                    "--force-conflicts",
                ];
                self.stack.cluster.enter(&back);
            }
            Step::UpBeforeCrds => {
                self.helm("upgrade", Version::This, false);
                crds();
            }
        }
        rolled_out(self.stack);
    }

    fn helm(&self, verb: &str, version: Version, with_crds: bool) {
        let crds = format!("--set=crds.install={with_crds}");
        let create: &[&str] = match verb {
            "install" => &["--create-namespace"],
            _ => &[],
        };
        self.helm_with(verb, version, &[&[crds.as_str()], create].concat());
        rolled_out(self.stack);
    }

    /// Whatever kubectl has applied.
    fn helm_with(&self, verb: &str, version: Version, args: &[&str]) {
        let s = self.stack;
        let mut values = values(s);
        let chart = match version {
            Version::This => CHART,
            Version::Before => {
                values["image"]["tag"] = json!(BEFORE);
                CHART_BEFORE
            }
        };
        s.write(VALUES, &values.to_string());
        let of_scenario = format!("--values={VALUES}");
        let fixed = [
            "helm",
            verb,
            "mesh-optin",
            chart,
            "--namespace=mesh-optin",
            &of_scenario,
            "--take-ownership",
            "--force-conflicts",
        ];
        s.cluster.enter(&[&fixed[..], args].concat());
    }
}

/// A released program, which tests/run has built.
fn program(version: &str) -> String {
    let versions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/versions");
    run(versions, &["path", version], "").trim().to_owned()
}

/// The node has the program of this version.
fn is_now(s: &Stack, version: &str) {
    let installed = || -> Option<String> {
        let text = std::fs::read_to_string(s.path("/var/lib/mesh-optin/installed.json")).ok()?;
        let installed: Value = serde_json::from_str(&text).ok()?;
        Some(installed["version"].as_str()?.to_owned())
    };
    let is = s.wait_for(|| (installed().as_deref() == Some(version)).then_some(()));
    assert!(is.is_some(), "{:?}, not {version}", installed());
}

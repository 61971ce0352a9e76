//! The chart is removed in the wrong order, and then in the right one, while pods run.

use serde_json::Value;

use super::{
    daemonset::{DAEMONSET, import_image, restored},
    footprint::{Footprint, KEPT},
    helm::{CRDS, helm, ready, remove_everything, values},
    rollout::rolled_out,
};
use crate::{
    Scenario, THIN, agent_is_away, alone, enrolled, is_redirected, lands_at_the_sidecar,
    support::{stack::Stack, stack_pod::Pod},
};

const NAMESPACE: &str = "removed";

/// What is removed before the nodes are clean, and what new pods are refused with from then on.
struct TooEarly {
    what: &'static str,
    remove: fn(&Stack),
    reason: &'static str,
}

const TOO_EARLY: [TooEarly; 3] = [
    TooEarly {
        what: "the release",
        remove: |s| {
            uninstall(s);
            agent_is_away(s); // its pods end after helm has
        },
        reason: "AgentUnavailable",
    },
    TooEarly {
        what: "its namespace",
        remove: |s| {
            let delete = ["kubectl", "delete", "namespace", "mesh-optin"];
            s.cluster
                .enter(&[&delete[..], &["--timeout=180s"]].concat());
        },
        reason: "AgentUnavailable",
    },
    TooEarly {
        what: "the CRDs",
        remove: delete_crds,
        reason: "UnknownProfile",
    },
];

/// With one Multus alone: agent and chart are the same with both.
pub(super) const SCENARIO: Scenario = alone(
    "whatever is removed first, running pods stay in the mesh and the way out is the same",
    |s| {
        restored(s, || {
            import_image(s, &[]);
            enrolled(s, NAMESPACE);
            remove_everything(s);
            let before = Footprint::once_settled(s);
            for (round, early) in TOO_EARLY.into_iter().enumerate() {
                helm(s, &["install", "--create-namespace"], &values(s));
                rolled_out(s);
                // what the agent has never seen it does not miss
                let profile = s.path("/var/lib/mesh-optin/profiles/default.yaml");
                assert!(s.wait_for(|| profile.exists().then_some(())).is_some());
                // Events outlive pods of the same name
                let pod = |name: &str| Pod::new(NAMESPACE, &format!("{name}-{round}"), "mesh");
                let [stays, goes, new] = ["stays", "goes", "new"].map(pod);
                is_redirected(s, &stays);
                is_redirected(s, &goes);
                (early.remove)(s);
                s.create(&new);
                let (why, what) = (s.refused(&new), early.what);
                let is_refused = why.contains(early.reason);
                assert!(is_refused, "after {what} was removed: {why}");
                s.delete_at_first_attempt(std::slice::from_ref(&goes));
                s.delete(&new); // an ADD that waits for the agent ends first
                lands_at_the_sidecar(s, &stays);
                s.all_landed(&stays, "15001 203.0.113.7:80 ");
                way_out(s, &stays);
                before.is_restored(s, &KEPT);
                remove_everything(s);
            }
            s.note(
                "after release, namespace or CRDs were removed too early, running pods stayed in the mesh, and nothing was left in the end".into(),
            );
            s.cluster.enter(&["kubectl", "apply", "-f", CRDS]);
        });
    },
)
.only_with(THIN);

/// Installs what removes everything from the nodes, and then that, as deploy/README.md says. Ends the last pod meanwhile.
fn way_out(s: &Stack, last: &Pod) {
    let list = ["helm", "list", "--namespace=mesh-optin", "--short"];
    let verb: &[&str] = match s.cluster.enter(&list).trim() {
        "" => &["install", "--create-namespace"],
        _ => &["upgrade"],
    };
    let out = ["--set=uninstall=true", "--set=meshProfile.create=false"];
    helm(s, &[verb, &out].concat(), &values(s));
    s.delete(last);
    ready(s, "mesh-optin-uninstall");
    uninstall(s);
}

fn uninstall(s: &Stack) {
    let uninstall = ["helm", "uninstall", "mesh-optin", "--namespace=mesh-optin"];
    s.cluster.enter(&uninstall);
}

/// Deletes the CRDs, as the refusal of the first says, and waits until the agent is not ready without them.
fn delete_crds(s: &Stack) {
    let delete = |crd: &str| format!("kubectl delete crd {crd}.meshoptin.dev --timeout=180s");
    let refused = format!("{} 2>&1 || true", delete("meshprofiles"));
    let said = s.cluster.enter(&["sh", "-c", &refused]);
    let unbind = "kubectl delete -k deploy/admission/bindings";
    assert!(said.contains(unbind), "{said}");
    let (_, annotate) = said.split_once("then run: ").unwrap();
    let annotate = annotate.trim();
    let steps = [
        concat!("cd ", env!("CARGO_MANIFEST_DIR")),
        &format!("{unbind} --ignore-not-found"),
        annotate,
        &annotate.replace("meshprofiles", "meshnodes"),
        &delete("meshprofiles"),
        &delete("meshnodes"),
    ];
    s.cluster.enter(&["sh", "-c", &steps.join(" && ")]);
    let is_noticed = || {
        let object = s.cluster.request("GET", DAEMONSET, &Value::Null).ok()?;
        (object["status"]["numberReady"] == 0).then_some(())
    };
    assert!(s.wait_for(is_noticed).is_some(), "the agent is still ready");
}

//! The version before this one, as it was released: beside it, upgraded and rolled back to.

use super::*;
use crate::support::lab::inside;

const BEFORE: &str = "0.2.0";
const PROGRAM: &str = "opt/cni/bin/mesh-optin";

fn installed(node: &Node) -> String {
    let text = std::fs::read_to_string(node.path("var/lib/mesh-optin/installed.json"));
    let installed: Value = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
    installed["version"].as_str().unwrap_or_default().to_owned()
}

fn start_before<'a>(node: &Node, name: &str, port: &str) -> Agent<'a> {
    node.with_version(BEFORE, || start_this(node, name, port).ready())
}

fn start_this<'a>(node: &Node, name: &str, port: &str) -> Agent<'a> {
    let periods = ["--install-period", "1", "--audit-period", "1"];
    let args = [&["--probe-port", port], &periods[..]].concat();
    Agent::start(node, cluster(), name, &args)
}

#[test]
fn an_upgrade_and_a_rollback_lose_no_add_and_leave_no_pod_out() {
    on_node_with_agent(|node| {
        let consistent = r#"mesh_optin_audit_pods{state="consistent"}"#;
        let pods: Vec<_> = (0..4)
            .map(|n| cluster().create_pod_on("back-and-forth", "defaults", &format!("before-{n}")))
            .collect();
        let labs: Vec<_> = (0..4).map(|n| node.pod(&format!("p{n}"), V4)).collect();
        let redirected = |n: usize| {
            let call = add(node, cluster(), &labs[n].netns, &cni_args(&pods[n]));
            assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
            is_redirected(&labs[n]);
        };
        let older = start_before(node, "back-and-forth", "18811");
        assert_eq!(installed(node), BEFORE);
        redirected(0);
        // upgraded: the newer one takes the node, its program, and what the older one made
        let newer = start_this(node, "back-and-forth", "18812").ready();
        until(
            || installed(node) == env!("CARGO_PKG_VERSION"),
            || newer.get("/readyz"),
        );
        redirected(1);
        newer.reaches(consistent, 1.0);
        older.end(Signal::SIGTERM);
        // rolled back: the older one waits for the newer one's end
        let older = start_before(node, "back-and-forth", "18813");
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(installed(node), env!("CARGO_PKG_VERSION"));
        redirected(2);
        newer.end(Signal::SIGTERM);
        until(|| installed(node) == BEFORE, || older.get("/readyz"));
        redirected(3);
        older.reaches(consistent, 1.0);
        let size = |path: &str| std::fs::metadata(node.path(path)).unwrap().len();
        let own = node.with_version(BEFORE, || size("mesh-optin"));
        // on record before it is there
        until(|| size(PROGRAM) == own, || older.get("/readyz"));
    });
}

#[test]
fn plugin_and_agent_work_with_the_previous_version_of_each_other() {
    on_node_with_agent(|node| {
        let name = "neighbors";
        let pods =
            ["of-this", "of-before"].map(|pod| cluster().create_pod_on(name, "defaults", pod));
        let labs = ["a", "b"].map(|lab| node.pod(lab, V4));
        let older = start_before(node, name, "18821");
        let call = add(node, cluster(), &labs[0].netns, &cni_args(&pods[0]));
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        older.end(Signal::SIGTERM);
        let newer = start_this(node, name, "18822").ready();
        let call = node.with_version(BEFORE, || {
            add(node, cluster(), &labs[1].netns, &cni_args(&pods[1]))
        });
        assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
        labs.iter().for_each(is_redirected);
        newer.reaches(r#"mesh_optin_audit_pods{state="consistent"}"#, 1.0);
        let verified = inside(&cluster().netns, || {
            node.with_version(BEFORE, || {
                node.program(&["verify", "--all"]).output().unwrap()
            })
        });
        assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    });
}

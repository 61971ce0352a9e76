//! What an ADD costs that the agent answers, counted: the same on any machine.

use super::*;
use crate::support::{
    counted::{instructions, page_faults},
    lab::inside,
    traced::traced_add,
};

#[test]
fn an_add_takes_few_page_faults_system_calls_and_instructions() {
    on_node_with_agent(|node| {
        let pod = cluster().create_pod_on("cost", "defaults", "cost");
        let args = cni_args(&pod);
        let (faults, calls, instructions) = node.optimized(|| {
            // it installs the program, and the node's settings
            std::fs::remove_file(node.path("etc/mesh-optin/node.yaml")).unwrap();
            let settings = ["--deadline", "15s", "--sources", "agent"];
            let _agent = Agent::start(node, cluster(), "cost", &settings).ready();
            inside(&cluster().netns, || {
                let redirected = |call: &crate::support::lab::Call| {
                    assert_eq!(call.logged_reason(), "Redirected", "{call:?}")
                };
                let mut lab = 0;
                let mut next = || {
                    lab += 1;
                    std::fs::remove_dir_all(node.path("run/mesh-optin/attachments")).ok();
                    node.pod(&format!("pod-{lab}"), V4)
                };
                let first = next();
                let (call, faults) = page_faults(node, "ADD", &first.netns, &args, CONFIG);
                redirected(&call);
                let second = next();
                let traced = traced_add(node, &second.netns, &args, CONFIG, &[]);
                redirected(traced.call.as_ref().unwrap());
                let third = next();
                let (call, instructions) = instructions(node, "ADD", &third.netns, &args, CONFIG);
                redirected(&call);
                (faults, traced.count(), instructions)
            })
        });
        println!(
            "an ADD takes {faults} page faults, {calls} system calls and {instructions} instructions"
        );
        // some 70 are of code and constants, one for each 64 KiB that an ADD touches: where the linker puts them is worth ten; the release
        // takes some 12 less
        assert!((20..=114).contains(&faults), "{faults} page faults");
        assert!((50..=205).contains(&calls), "{calls} system calls");
        assert!(
            (300_000..=1_000_000).contains(&instructions),
            "{instructions} instructions"
        );
    });
}

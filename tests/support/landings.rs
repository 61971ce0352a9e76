//! Where connections of a redirected pod land.

use super::{
    lab::{APP, CONFIG, Node, Owner, PodLab, PodNet},
    pods::given_with,
};

/// Redirects the pod that CNI_ARGS name.
pub fn redirected(node: &Node, args: &str, net: PodNet) -> PodLab {
    let lab = node.pod("pod", net);
    let add = node.call("ADD", &lab.netns, args, CONFIG);
    assert_eq!(add.code, 0, "{add:?}");
    lab
}

pub fn profile(node: &Node, redirect: &str) {
    let yaml = format!(
        "{{apiVersion: meshoptin.dev/v1alpha1, kind: MeshProfile, metadata: {{name: default}}, spec: {{redirect: {redirect}}}}}"
    );
    node.write("etc/mesh-optin/profiles/default.yaml", &yaml);
}

/// A pod with IPv6 on eth0 and IPv4 on net1 is captured in both families, out and in.
pub fn both_families_are_captured(lab: &PodLab) {
    outbound(
        lab,
        &[
            (APP, "[2606:2800::1]:80", "pod:15001"),
            (APP, "172.30.0.1:80", "pod:15001"),
        ],
    );
    inbound(
        lab,
        &[
            ("[fd00:244::5]:8080", "pod:15006"),
            ("172.30.0.5:8080", "pod:15006"),
        ],
    );
}

/// Out of the pod: whose connection, to where, where it lands.
pub fn outbound(lab: &PodLab, expected: &[(Owner, &str, &str)]) {
    for (owner, to, landing) in expected {
        assert_eq!(lab.dial_out(*owner, to), *landing, "{owner:?} to {to}");
    }
}

/// Into the pod.
pub fn inbound(lab: &PodLab, expected: &[(&str, &str)]) {
    for (to, landing) in expected {
        assert_eq!(lab.dial_in(to), *landing, "to {to}");
    }
}

/// A pod that needs all that there is to make: dual-stack, in TPROXY mode, with DNS. Its CNI_ARGS.
pub fn given_everything(node: &Node, backend: &str) -> String {
    profile(node, &format!("{{backend: {backend}}}"));
    given_with(
        node,
        "tproxy",
        &[],
        &[
            ("ISTIO_DUAL_STACK", "true"),
            ("ISTIO_META_DNS_CAPTURE", "true"),
        ],
    )
}

/// Every redirection of the node is as it should be.
pub fn verified(node: &Node) {
    let verify = node.program(&["verify", "--all"]).output().unwrap();
    assert_eq!(
        verify.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&verify.stdout)
    );
}

//! Source `api` against a real kube-apiserver, with RBAC that allows just `get` on pods and namespaces.

use std::time::{Duration, Instant};

use crate::{
    cluster,
    support::{
        cluster::{Cluster, SERVER},
        lab::{CONFIG, Call, Node, V4, inside, on_node},
        pods::cni_args,
    },
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/team-a/pods";
/// How long after its deadline an answer may come on a loaded machine.
const SLACK: Duration = Duration::from_secs(10);

fn create_pod(cluster: &Cluster, name: &str) -> Value {
    cluster.create_data_pod("defaults", name)
}

fn delete_pod(cluster: &Cluster, name: &str) {
    cluster
        .request(
            "DELETE",
            &format!("{PODS}/{name}"),
            &json!({"gracePeriodSeconds": 0}),
        )
        .unwrap();
}

fn credential(node: &Node, server: &str, ca: &str, token: &str) {
    node.write("etc/mesh-optin/node.yaml", "{deadline: 15s}");
    node.credential(server, ca, token);
}

fn good_credential(node: &Node, cluster: &Cluster) {
    credential(
        node,
        SERVER,
        &cluster.file("ca.crt"),
        &cluster.token("mesh-optin", "node"),
    );
}

/// An ADD on a node in the cluster's network, with how long it took.
fn add(node: &Node, cluster: &Cluster, netns: &str, args: &str) -> (Call, Duration) {
    inside(&cluster.netns, || {
        let started = Instant::now();
        (node.call("ADD", netns, args, CONFIG), started.elapsed())
    })
}

/// An ADD that must be refused within the deadline: its message.
fn refused(node: &Node, cluster: &Cluster, args: &str) -> String {
    let netns = "/run/netns/refused";
    if !node.path("run/netns/refused").exists() {
        node.pod("refused", V4);
    }
    let (call, took) = add(node, cluster, netns, args);
    assert!(took < Duration::from_secs(15) + SLACK, "{took:?}: {call:?}");
    let (message, code) = call.error();
    assert!(
        code == 11 || message.starts_with("NodeConfigInvalid"),
        "{code} {message}"
    );
    message
}

#[test]
fn get_on_pods_and_namespaces_is_enough() {
    let pod = create_pod(cluster(), "opted-in");
    on_node(|node| {
        good_credential(node, cluster());
        let lab = node.pod("a", V4);
        let (call, _) = add(node, cluster(), &lab.netns, &cni_args(&pod));
        assert_eq!(
            (call.code, call.logged_reason().as_str()),
            (0, "Redirected"),
            "{call:?}"
        );
        let without_uid = cni_args(&pod)
            .split(";K8S_POD_UID")
            .next()
            .unwrap()
            .to_owned()
            + ";K8S_POD_UID=";
        assert_eq!(
            add(node, cluster(), &lab.netns, &without_uid)
                .0
                .logged_reason(),
            "AlreadyRedirected"
        );
    });
}

#[test]
fn both_gets_go_over_one_connection() {
    let pod = create_pod(cluster(), "one-connection");
    on_node(|node| {
        good_credential(node, cluster());
        let lab = node.pod("a", V4);
        let trace = inside(&cluster().netns, || {
            let (trace, root) = (node.path("trace"), node.path(""));
            let script = format!(
                "CNI_COMMAND=ADD CNI_NETNS={} CNI_CONTAINERID=c CNI_IFNAME=net1 CNI_ARGS='{}' strace -f -e trace=connect,execve -o {} chroot {} /mesh-optin",
                lab.netns,
                cni_args(&pod),
                trace.display(),
                root.display()
            );
            crate::support::run("sh", &["-c", &script], CONFIG);
            std::fs::read_to_string(trace).unwrap()
        });
        assert_eq!(trace.matches("sin_port=htons(6443)").count(), 1, "{trace}");
        assert_eq!(
            trace.matches("execve(").count(),
            2,
            "chroot and the plugin: {trace}"
        );
    });
}

#[test]
fn a_rejected_credential_is_reported_with_the_side_that_rejects_it() {
    let pod = create_pod(cluster(), "credentials");
    let (args, ca) = (cni_args(&pod), cluster().file("ca.crt"));
    on_node(|node| {
        credential(
            node,
            SERVER,
            &cluster().file("other-ca.crt"),
            &cluster().token("mesh-optin", "node"),
        );
        let message = refused(node, cluster(), &args);
        assert!(
            message.starts_with(
                "ApiUnauthorized: the certificate of https://127.0.0.1:6443 does not verify"
            ),
            "{message}"
        );
        credential(node, SERVER, &ca, "nonsense");
        let message = refused(node, cluster(), &args);
        assert!(
            message
                .starts_with("ApiUnauthorized: https://127.0.0.1:6443 does not accept the token"),
            "{message}"
        );
        let expired = "e30.eyJleHAiOjE3MDAwMDAwMDB9.e30"; // {}.{"exp":1700000000}.{}
        credential(node, SERVER, &ca, expired);
        let message = refused(node, cluster(), &args);
        assert!(
            message.contains("expired at 2023-11-14T22:13:20Z, "),
            "{message}"
        );
    });
}

#[test]
fn an_account_without_rights_gets_an_error_that_names_what_it_lacks() {
    let pod = create_pod(cluster(), "no-rbac");
    cluster().service_account("mesh-optin", "nobody");
    on_node(|node| {
        credential(
            node,
            SERVER,
            &cluster().file("ca.crt"),
            &cluster().token("mesh-optin", "nobody"),
        );
        let message = refused(node, cluster(), &cni_args(&pod));
        assert!(
            message.starts_with("ApiForbidden: ")
                && message.contains("system:serviceaccount:mesh-optin:nobody"),
            "{message}"
        );
    });
}

#[test]
fn a_deleted_pod_and_a_recreated_one_are_distinguished() {
    let pod = create_pod(cluster(), "gone");
    on_node(|node| {
        good_credential(node, cluster());
        delete_pod(cluster(), "gone");
        let message = refused(node, cluster(), &cni_args(&pod));
        assert!(
            message.starts_with("PodNotFound: pod team-a/gone does not exist"),
            "{message}"
        );
        let again = create_pod(cluster(), "gone");
        let message = refused(node, cluster(), &cni_args(&pod));
        assert!(
            message.starts_with("PodUidMismatch: ")
                && message.contains(again["metadata"]["uid"].as_str().unwrap()),
            "{message}"
        );
    });
}

#[test]
fn a_pod_that_appears_a_moment_later_is_found() {
    on_node(|node| {
        good_credential(node, cluster());
        let lab = node.pod("a", V4);
        // a pod that appears too late on a slow machine proves nothing
        let appeared_in_time = (0..20).any(|n| {
            let name = format!("late-{n}");
            let args = format!("K8S_POD_NAMESPACE=team-a;K8S_POD_NAME={name}");
            std::thread::scope(|scope| {
                let began = Instant::now();
                let call = scope.spawn(|| add(node, cluster(), &lab.netns, &args).0);
                std::thread::sleep(Duration::from_millis(100));
                create_pod(cluster(), &name);
                let in_time = began.elapsed() < Duration::from_secs(1);
                let call = call.join().unwrap();
                assert!(!in_time || call.logged_reason() == "Redirected", "{call:?}");
                in_time
            })
        });
        assert!(appeared_in_time);
    });
}

#[test]
fn an_unsafe_address_or_credential_is_not_used() {
    let pod = create_pod(cluster(), "unsafe");
    on_node(|node| {
        credential(
            node,
            "http://127.0.0.1:6443",
            &cluster().file("ca.crt"),
            "t",
        );
        assert!(
            refused(node, cluster(), &cni_args(&pod))
                .starts_with("NodeConfigInvalid: /var/lib/mesh-optin/api/server")
        );
        good_credential(node, cluster());
        std::fs::set_permissions(
            node.path("var/lib/mesh-optin/api"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        assert!(
            refused(node, cluster(), &cni_args(&pod))
                .starts_with("NodeConfigInvalid: /var/lib/mesh-optin/api has mode 755")
        );
    });
}

#[test]
fn a_stopped_server_and_a_hanging_one_are_distinguished_within_the_deadline() {
    let cluster = Cluster::start_with_team_a();
    let pod = create_pod(&cluster, "a");
    on_node(|node| {
        good_credential(node, &cluster);
        node.write("etc/mesh-optin/node.yaml", "{deadline: 4s}");
        cluster.signal(Signal::SIGSTOP);
        let message = refused(node, &cluster, &cni_args(&pod));
        assert!(
            message
                .starts_with("DeadlineExceeded: https://127.0.0.1:6443 did not answer within 4s"),
            "{message}"
        );
        cluster.signal(Signal::SIGKILL);
        let message = refused(node, &cluster, &cni_args(&pod));
        assert!(
            message.starts_with("ApiUnreachable: https://127.0.0.1:6443")
                && message.contains("refused"),
            "{message}"
        );
    });
}

#[test]
fn thirty_concurrent_look_ups_succeed_four_at_a_time() {
    let pod = create_pod(cluster(), "thirty");
    on_node(|node| {
        good_credential(node, cluster());
        node.write("etc/mesh-optin/node.yaml", "{deadline: 30s}");
        let labs: Vec<_> = (0..30).map(|i| node.pod(&format!("p{i}"), V4)).collect();
        std::thread::scope(|scope| {
            let calls: Vec<_> = labs
                .iter()
                .map(|lab| scope.spawn(|| add(node, cluster(), &lab.netns, &cni_args(&pod)).0))
                .collect();
            for call in calls {
                let call = call.join().unwrap();
                assert_eq!(call.code, 0, "{call:?}");
            }
        });
        let slots = std::fs::read_dir(node.path("run/mesh-optin/slots"))
            .unwrap()
            .count();
        assert!((1..=4).contains(&slots), "{slots}");
    });
}

//! How much memory Multus's daemon takes for the NetworkAttachmentDefinitions of a cluster, each of which it keeps: after they were created, and
//! after it was started again. A profile with the placement PerNamespace has one for each of its namespaces.
//!
//! `cargo bench --bench multus` (as root; some minutes).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints and fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use serde_json::json;
use support::{
    cluster::{Cluster, SERVER, script},
    lab::inside,
    run,
};

/// Attachments of a namespace: how many there are counts, not where.
const EACH: usize = 100;

fn main() {
    eprintln!("starting kube-apiserver ...");
    let cluster = Cluster::start();
    let file = |name: &str| {
        std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    cluster.service_account("kube-system", "default");
    cluster.apply(&file(
        "crds/k8s.cni.cncf.io_network-attachment-definitions.yaml",
    ));
    cluster.apply(&file("tests/stack/multus.yaml"));
    daemon_files(&cluster);
    restart(&cluster);
    println!(
        "\n{:>7}  {:>14}  {:>15}  {:>14}  {:>15}",
        "NADs", "RSS, watching", "RSS, restarted", "not of a file", "peak, restarted"
    );
    let mut made = 0;
    for count in [0, 1_000, 10_000] {
        if count > 0 {
            create(&cluster, made..count);
        }
        made = count;
        let watching = settled(&cluster);
        restart(&cluster);
        let restarted = settled(&cluster);
        println!(
            "{count:7}  {watching:11.1} MB  {restarted:12.1} MB  {:11.1} MB  {:12.1} MB",
            memory(&cluster, "RssAnon:"),
            memory(&cluster, "VmHWM:")
        );
    }
}

/// What the daemon of a node has: its configuration, the node's first network, and its account.
fn daemon_files(cluster: &Cluster) {
    let directories = "cd /mnt && mkdir -p hostroot account cni/bin cni/net.d cni/default.d cni/confdir cni/multus socket log && cp ca.crt account/";
    cluster.enter(&["sh", "-c", directories]);
    let token = cluster.token("kube-system", "multus");
    let network = r#"{"cniVersion":"1.0.0","name":"default-net","type":"bridge"}"#;
    let config = json!({
        "chrootDir": "/mnt/hostroot", "cniVersion": "1.0.0", "logLevel": "verbose", "logToStderr": true,
        "socketDir": "/mnt/socket", "daemonSocketDir": "/mnt/socket", "cniConfigDir": "/mnt/cni/net.d",
        "multusAutoconfigDir": "/mnt/cni/default.d", "multusConfigFile": "auto", "confDir": "/mnt/cni/confdir",
        "cniDir": "/mnt/cni/multus", "binDir": "/mnt/cni/bin", "namespaceIsolation": true, "globalNamespaces": "default",
    });
    for (name, text) in [
        ("account/token", token.as_str()),
        ("cni/default.d/10-bridge.conf", network),
        ("daemon.json", &config.to_string()),
    ] {
        std::fs::write(cluster.directory.join(name), text).unwrap();
    }
}

/// Starts the daemon, in place of one that runs; it answers when this returns.
fn restart(cluster: &Cluster) {
    let start = format!(
        "cd /mnt; [ ! -e multus-daemon.pid ] || kill -KILL $(cat multus-daemon.pid); rm -f socket/*; setsid {} /mnt >>log/multus-daemon 2>&1 </dev/null &",
        script("multus-daemon")
    );
    cluster.enter(&["sh", "-c", &start]);
    let ask =
        "until curl -sf --unix-socket /mnt/socket/multus.sock http://x/healthz; do sleep .2; done";
    cluster.enter(&["timeout", "60", "sh", "-c", ask]);
}

/// Creates as many attachments as the controller would, in the shape that it gives them.
fn create(cluster: &Cluster, range: std::ops::Range<usize>) {
    eprintln!("making attachments {range:?} ...");
    let mut config = String::from("parallel\nparallel-max = 16\nsilent\nshow-error\nfail\n");
    for n in range.clone() {
        if n > range.start {
            config.push_str("next\nsilent\nshow-error\nfail\n");
        }
        let namespace = format!("bench-{}", n / EACH);
        if n % EACH == 0 {
            cluster.namespace(&namespace, &json!({}));
        }
        let object = json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": format!("mesh-{n}"), "labels": {"meshoptin.dev/profile": "default"}},
            "spec": {"config": format!(r#"{{"cniVersion":"1.1.0","name":"mesh-{n}","type":"mesh-optin"}}"#)},
        });
        config.push_str(&format!(
            "url = {SERVER}/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions\ncacert = {}\nheader = \"Authorization: Bearer admin\"\nheader = \"Content-Type: application/json\"\ndata = {:?}\noutput = /dev/null\n",
            cluster.directory.join("ca.crt").display(),
            object.to_string(),
        ));
    }
    inside(&cluster.netns, || run("curl", &["--config", "-"], &config));
}

/// A field of the daemon's status, in MB.
fn memory(cluster: &Cluster, field: &str) -> f64 {
    let pid = cluster.program("multus-daemon");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|l| l.strip_prefix(field)).unwrap();
    value.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e3
}

/// Its resident memory once that does not change any more.
fn settled(cluster: &Cluster) -> f64 {
    let (mut last, mut same) = (0.0, 0);
    while same < 20 {
        std::thread::sleep(Duration::from_millis(500));
        let now = memory(cluster, "VmRSS:");
        same = if (now - last).abs() < 0.2 {
            same + 1
        } else {
            0
        };
        last = now;
    }
    last
}

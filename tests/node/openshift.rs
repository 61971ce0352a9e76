//! Multus in OpenShift's configuration, at OpenShift's directories, with what `platform=openshift` installs; and what is of CRI-O there: the way it
//! names network namespaces and calls Multus, and crun. CRI-O itself, admission by SecurityContextConstraints and SELinux are not.

use serde_json::{Value, json};

use crate::{
    CONFIG, Scenario,
    agent::{
        helm::{MESH_NODE, helm, ready, reports_the_version_of_multus, values},
        import_image,
    },
    agent_is_away, alone, enrolled, is_left_alone, is_redirected, lands_at_the_sidecar,
    support::{lab::inside, run, stack::Stack, stack_pod::Pod},
    together,
};

/// Where OpenShift's Multus finds programs.
const BIN: &str = "/var/lib/cni/bin";
/// The chain of other vendors' plugins: beside the default network's configuration.
const CHAIN: &str = "/run/multus/cni/net.d/vendor-cni-chain/10-vendor.conf";
/// What it calls: says what it was called with, and passes on the result.
const VENDOR: &str = r#"#!/bin/sh
env >>/run/vendor-$CNI_COMMAND
[ "$CNI_COMMAND" != ADD ] || exec python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["prevResult"]))'
"#;

pub(crate) const SCENARIOS: &[Scenario] = &[
    together("on OpenShift pods opt in by namespace", |s| {
        enrolled(s, "own");
        let pod = Pod::new("own", "web", "mesh");
        is_redirected(s, &pod);
        s.delete_at_first_attempt(std::slice::from_ref(&pod));
        s.has_no_record(&pod);
    }),
    together("on OpenShift a workload opts in, and opts out", |s| {
        s.cluster.namespace("workload", &json!({}));
        s.attachment("workload", "mesh", Some(CONFIG));
        let web = Pod::new("workload", "web", "mesh").label("sidecar.istio.io/inject", "true");
        is_redirected(s, &web);
        let batch = Pod::new("workload", "batch", "mesh").label("sidecar.istio.io/inject", "false");
        is_left_alone(s, &batch);
    }),
    together(
        "on OpenShift the injected default/istio-cni works from every namespace",
        |s| {
            let injected = json!({"istio-injection": "enabled"});
            s.cluster.namespace("injected", &injected);
            is_redirected(s, &Pod::new("injected", "web", "default/istio-cni"));
        },
    ),
    together(
        "on OpenShift another namespace's NAD is refused by Multus, except one in a global namespace",
        |s| {
            enrolled(s, "neighbor");
            enrolled(s, "isolated");
            let pod = Pod::new("isolated", "web", "neighbor/mesh");
            s.create(&pod);
            let why = s.refused(&pod);
            assert!(why.contains("namespace isolation"), "{why}");
            assert!(s.records(&pod).is_empty());
            s.delete(&pod);
            s.cluster.namespace("openshift-multus", &json!({}));
            s.attachment("openshift-multus", "mesh", Some(CONFIG));
            is_redirected(s, &Pod::new("isolated", "other", "openshift-multus/mesh"));
        },
    ),
    together(
        "on OpenShift a member of Service Mesh 2 keeps its own NAD v2-6-istio-cni",
        |s| {
            let injected = json!({"istio-injection": "enabled"});
            s.cluster.namespace("member", &injected);
            s.attachment("member", "v2-6-istio-cni", None);
            is_redirected(s, &Pod::new("member", "web", "v2-6-istio-cni"));
        },
    ),
    together("with crun a pod is redirected, and deleted", |s| {
        let class = json!({"metadata": {"name": "crun"}, "handler": "crun"});
        s.cluster
            .create("/apis/node.k8s.io/v1/runtimeclasses", &class);
        enrolled(s, "crun");
        let pod = Pod::new("crun", "web", "mesh");
        let mut manifest = pod.manifest();
        manifest["spec"]["runtimeClassName"] = json!("crun");
        s.cluster.create("/api/v1/namespaces/crun/pods", &manifest);
        lands_at_the_sidecar(s, &pod);
        // runc's file is state.json
        let made_by_crun = ["find", "/run/containerd/runc/k8s.io", "-name", "status"];
        assert!(!s.cluster.enter(&made_by_crun).is_empty());
        s.delete_at_first_attempt(std::slice::from_ref(&pod));
        s.has_no_record(&pod);
    }),
    together(
        "called as CRI-O calls it, with /var/run/netns/UUID, Multus redirects and cleans up",
        as_cri_o_calls,
    ),
    alone("on OpenShift the chart's directories are Multus's", |s| {
        enrolled(s, "verified"); // until it was called, the agent cannot tell
        is_redirected(s, &Pod::new("verified", "web", "mesh"));
        let verified = || {
            let node = s.cluster.request("GET", MESH_NODE, &Value::Null).ok()?;
            let conditions = node["status"]["conditions"].as_array()?.clone();
            let is_it = |c: &&Value| c["type"] == "PathsVerified" && c["status"] == "True";
            conditions.iter().find(is_it).map(drop)
        };
        assert!(
            s.wait_for(verified).is_some(),
            "{:#?}",
            s.cluster.request("GET", MESH_NODE, &Value::Null)
        );
        reports_the_version_of_multus(s);
        for path in ["mesh-optin", "multus-shim"].map(|name| format!("{BIN}/{name}")) {
            assert!(s.path(&path).exists(), "{path}");
        }
        assert!(!s.path("/opt/cni/bin/mesh-optin").exists());
    }),
    alone(
        "on OpenShift the auxiliary chain's plugin is called as well, in the proxy's environment",
        |s| {
            let vendor = format!("{BIN}/vendor");
            s.write(&vendor, VENDOR);
            s.cluster.enter(&["chmod", "755", &vendor]);
            s.write(
                CHAIN,
                r#"{"cniVersion":"0.3.1","name":"vendor","type":"vendor"}"#,
            );
            enrolled(s, "chained");
            let pod = Pod::new("chained", "web", "mesh");
            is_redirected(s, &pod);
            let called = |verb: &str| {
                let text = std::fs::read_to_string(s.path(&format!("/run/vendor-{verb}")));
                text.ok()
                    .filter(|text| text.contains("K8S_POD_NAMESPACE=chained"))
            };
            let environment = called("ADD").expect("it is called");
            // in no order
            let mut variables = environment.lines();
            let has_proxy = variables.any(|v| v == "HTTPS_PROXY=http://127.0.0.1:9");
            assert!(has_proxy, "{environment}");
            s.delete(&pod);
            s.has_no_record(&pod);
            assert!(s.wait_for(|| called("DEL")).is_some());
            s.cluster
                .enter(&["rm", "-r", "/run/multus/cni/net.d/vendor-cni-chain"]);
        },
    ),
    alone(
        "on OpenShift without the agent the API server is asked directly, whatever the proxy's environment says",
        |s| {
            agents_end(s);
            let server = s.path("/var/lib/mesh-optin/api/server");
            let server = std::fs::read_to_string(server).unwrap();
            assert_eq!(
                server.trim(),
                "https://10.96.0.1:443",
                "no address of NO_PROXY"
            );
            enrolled(s, "proxied");
            let pod = Pod::new("proxied", "web", "mesh");
            is_redirected(s, &pod);
            let asked = s
                .cluster
                .requests_of("system:serviceaccount:mesh-optin:node");
            let path = format!("get {}", pod.path());
            assert!(asked.iter().any(|r| r.starts_with(&path)), "{asked:?}");
            s.delete(&pod);
            chart(s, &["upgrade"]);
            ready(s, "mesh-optin-agent");
        },
    ),
    alone("on OpenShift, uninstalled, it leaves nothing", |s| {
        assert!(s.path("/etc/cni/multus/net.d/istio-cni.conf").exists());
        agents_end(s);
        s.delete_every_pod();
        chart(s, &["upgrade", "--set=uninstall=true"]);
        ready(s, "mesh-optin-uninstall");
        for path in [
            "/var/lib/mesh-optin",
            "/run/mesh-optin",
            "/var/lib/cni/bin/mesh-optin",
            "/etc/cni/multus/net.d/istio-cni.conf",
            "/etc/cni/multus/net.d/v2-6-istio-cni.conf",
        ] {
            assert!(!s.path(path).exists(), "{path} is left");
        }
        for path in [
            "/var/lib/cni/bin/multus-shim",
            "/etc/kubernetes/cni/net.d/00-multus.conf",
        ] {
            assert!(s.path(path).exists(), "{path} is another's");
        }
    }),
];

/// What the chart installs, with the values of OpenShift alone: no directory is given, and the API server is found as by every pod.
pub(crate) fn install(s: &Stack) {
    import_image(s, &[]);
    chart(s, &["install", "--create-namespace"]);
    ready(s, "mesh-optin-agent");
}

fn agents_end(s: &Stack) {
    chart(s, &["upgrade", "--set=nodeSelector.agents=none"]);
    agent_is_away(s);
}

fn chart(s: &Stack, args: &[&str]) {
    let mut values = values(s);
    assert_eq!(values["platform"], "openshift");
    values["extraAttachments"] = json!(["v2-6-istio-cni"]);
    values["hostCredential"] = json!(true);
    values["extraArgs"] = json!(["--audit-period=2"]);
    helm(s, args, &values);
}

/// One more sandbox of a pod, made as CRI-O makes it: a namespace pinned by UUID, and the arguments that ocicni gives.
fn as_cri_o_calls(s: &Stack) {
    enrolled(s, "cri-o");
    let pod = Pod::new("cri-o", "web", "mesh");
    is_redirected(s, &pod);
    let uid = s.get(&pod).unwrap()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let name = "0f9c1a52-6b0e-4b8e-9d6e-1f0f3f3b7a10";
    let netns = format!("/var/run/netns/{name}");
    let sandbox = "9b".repeat(32);
    s.cluster.enter(&["ip", "netns", "add", name]);
    let call = |verb: &str| {
        let call = format!(
            "CNI_COMMAND={verb} CNI_CONTAINERID={sandbox} CNI_NETNS={netns} CNI_IFNAME=eth0 CNI_PATH={BIN} \
             CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAMESPACE=cri-o;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID={sandbox};K8S_POD_UID={uid}' \
             {BIN}/multus-shim </etc/kubernetes/cni/net.d/00-multus.conf"
        );
        s.cluster.enter(&["sh", "-c", &call])
    };
    let rules = || {
        let netns =
            mesh_optin::kernel::Netns::open(&s.path(&format!("/run/netns/{name}"))).unwrap();
        inside(&netns, || run("nft", &["list", "ruleset"], ""))
    };
    call("ADD");
    assert!(rules().contains("redirect to :15001"), "{}", rules());
    let record = || s.records(&pod).into_iter().find(|r| r["netns"] == *netns);
    let interfaces = |record: Option<Value>| record.map(|r| r["interfaces"].clone());
    assert_eq!(interfaces(record()), Some(json!(["net1"])));
    // the agent's container has that path as well
    let verify = ["/mesh-optin", "verify", "--netns", netns.as_str()];
    let exec = [
        "kubectl",
        "exec",
        "--namespace=mesh-optin",
        "daemonset/mesh-optin-agent",
        "--",
    ];
    let verified = s.cluster.enter(&[&exec[..], &verify].concat());
    let right = "Pod cri-o/web is redirected as it should be";
    assert!(verified.contains(right), "{verified}");
    call("DEL");
    assert_eq!(interfaces(record()), Some(json!([])), "it is alive");
    // CRI-O removes the namespace, and calls again
    s.cluster.enter(&["ip", "netns", "delete", name]);
    call("DEL");
    assert_eq!(record(), None);
    s.delete(&pod);
    s.has_no_record(&pod);
}

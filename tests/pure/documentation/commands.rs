//! The commands that the documentation shows, and what runs each.

/// What becomes of a command.
pub(super) enum Shown {
    /// It is run right here, and ends with this exit code.
    Runs(i32),
    /// It is run, or the same is done, by a test: its file, its function or scenario, and a part of the file that does it.
    By(&'static str, &'static str, &'static str),
    /// Nothing runs it, for this reason.
    Not(&'static str),
}
use Shown::{By, Not, Runs};

const DAEMONSET: &str =
    "with the agent a crowd of pods starts at once, and only their namespace is read";
const DEMO: Shown = By(
    "tests/kernel/demo.rs",
    "the_demo_needs_no_root",
    r#"program, "demo""#,
);
const CHART: &str =
    "the chart and one label are all that a pod needs, and uninstalled it leaves nothing";
/// It runs what the section shows.
const REMOVAL: Shown = By(
    "tests/cluster/removal.rs",
    "nothing_is_stuck_where_the_controller_is_gone_and_nothing_of_ours_is_left",
    "shown()",
);
const DOCTOR: &str = "a_healthy_cluster_is_healthy_and_whatever_breaks_is_named_with_its_remedy";
const UP_AND_DOWN: &str = "tests/node/up_and_down.rs";
const BARE: &str = "the_commands_of_the_readme_redirect_a_pod_on_a_bare_node";
/// It runs what the page shows.
const OF_README: Shown = By(UP_AND_DOWN, BARE, "shown(&page)");
const DOWN: &str = "down_takes_down_a_stack_with_pods";

/// Each command as it is shown, without its prompt and comment.
pub(super) const COMMANDS: &[(&str, Shown)] = &[
    ("cargo run --release -- demo", DEMO),
    // the tests themselves
    ("tests/run all", Not("it runs this test")),
    ("tests/run fast", Not("it runs this test")),
    (
        "tests/run lint",
        Not("a step of tests/run all where CI is set"),
    ),
    (
        r#"tests/run node "default/istio-cni""#,
        Not("a part of tests/run all"),
    ),
    (
        "cargo test --locked --features controller,kubectl --lib --test pure reasons",
        Not("it runs this test"),
    ),
    (
        "cargo test --locked --test kernel drift::nftables",
        Not("a part of tests/run all"),
    ),
    (
        "UPDATE=1 INSTA_UPDATE=always tests/run fast",
        Not("it changes files that other tests read meanwhile"),
    ),
    // the image
    (
        "docker build -f deploy/Dockerfile -t registry.example.com/mesh-optin:0.3.0 .",
        Not("it needs Docker; tests/node runs an image of the same files"),
    ),
    (
        "docker push registry.example.com/mesh-optin:0.3.0",
        Not("it needs a registry"),
    ),
    (
        "docker build -f deploy/Dockerfile -t registry.example.com/mesh-optin:0.3.0 . && docker push registry.example.com/mesh-optin:0.3.0",
        Not("it needs Docker and a registry"),
    ),
    (
        "tests/stack/image mesh-optin.tar registry.example.com/mesh-optin:0.3.0 $(deploy/build)",
        By(
            "tests/cluster/image.rs",
            "two_images_of_one_program_are_the_same_to_the_byte_and_hold_nothing_else",
            r#"script("image")"#,
        ),
    ),
    // a cluster
    (
        "kubectl apply -f crds/meshoptin.dev_meshprofiles.yaml -f crds/meshoptin.dev_meshnodes.yaml",
        By(
            "tests/cluster/agent/mesh_node.rs",
            "a_node_reports_its_state_and_its_account_can_write_nothing_else",
            "apply_crds()",
        ),
    ),
    (
        "kubectl apply -k deploy/kubernetes",
        By("tests/node/agent/mod.rs", DAEMONSET, "with_agent(s,"),
    ),
    (
        "helm install mesh-optin deploy/helm/mesh-optin --namespace mesh-optin --create-namespace --set image.repository=registry.example.com/mesh-optin",
        By("tests/node/agent/helm.rs", CHART, "install"),
    ),
    (
        "helm install mesh-optin deploy/helm/mesh-optin --namespace mesh-optin --create-namespace --set platform=kubernetes",
        By("tests/node/agent/helm.rs", CHART, "install"),
    ),
    (
        "kubectl label namespace shop istio-injection=enabled && kubectl -n shop rollout restart deployment",
        Not("it needs an Istio; tests/node labels namespaces of its own"),
    ),
    (
        "kubectl apply -k deploy/controller",
        By("tests/cluster/controller/mod.rs", "", "deploy/controller"),
    ),
    (
        "kubectl wait --for=condition=Ready meshprofile/default",
        By(
            "tests/support/controller.rs",
            "wait_for_profile",
            "--for=condition=Ready",
        ),
    ),
    (
        "kubectl run probe --image=x --dry-run=server",
        Not("it only tries whether the API server takes pods"),
    ),
    (
        "kubectl apply -k deploy/admission/bindings",
        By("tests/cluster/admission/mod.rs", "", "admission/bindings"),
    ),
    (
        "kubectl delete -k deploy/admission/bindings",
        By("tests/cluster/admission/crds.rs", "", "admission/bindings"),
    ),
    (
        "kubectl -n mesh-optin rollout status daemonset/mesh-optin-agent",
        Not("tests/node/agent/rollout.rs waits for the same in the DaemonSet's status"),
    ),
    (
        "kubectl get meshnodes -o wide",
        By(
            "tests/cluster/agent/mesh_node.rs",
            "a_node_reports_its_state_and_its_account_can_write_nothing_else",
            "meshnode",
        ),
    ),
    (
        "kubectl apply -f examples/opt-in-by-namespace.yaml",
        Not("its images do not exist; the demo runs the same workloads"),
    ),
    // explain, rules, verify
    (
        "alias mesh-optin='cargo run --release --'",
        Not("it only names the program"),
    ),
    ("mesh-optin explain web -n team-a -f examples/", Runs(0)),
    ("mesh-optin rules web -f examples/ --format nft", Runs(0)),
    ("mesh-optin explain -f examples/", Runs(3)),
    (
        "mesh-optin explain plain -f examples/opt-in-by-workload.yaml",
        Runs(3),
    ),
    (
        "mesh-optin rules api -f examples/ --format iptables",
        Runs(0),
    ),
    (
        "kubectl get pod,ns,net-attach-def -A -o yaml > all.yaml && mesh-optin explain web -n team-a -f all.yaml",
        Not(
            "it needs a cluster; that a List of objects is read is shown by documents_lists_and_templates_are_read",
        ),
    ),
    (
        "mesh-optin explain web -n team-a",
        By(
            "tests/cluster/agent/answering.rs",
            "explain_shows_what_was_done_for_a_pod_or_what_would_be_done",
            r#""explain""#,
        ),
    ),
    (
        "mesh-optin verify web -n team-a",
        By(
            "tests/kernel/drift/nftables.rs",
            "every_change_of_the_nftables_form_is_found",
            "verify(node)",
        ),
    ),
    (
        "mesh-optin verify --all",
        By(
            "tests/cluster/agent/watching.rs",
            "a_running_pod_that_is_not_redirected_is_found_and_reported",
            r#""verify", "--all""#,
        ),
    ),
    (
        "mesh-optin verify --netns /run/netns/cni-5b7c -o json",
        By(
            "tests/kernel/drift/looking.rs",
            "a_namespace_with_another_cookie_is_reported_as_gone_and_an_unknown_one_as_unknown",
            r#""--netns""#,
        ),
    ),
    (
        "kubectl -n mesh-optin exec ds/mesh-optin-agent -- /mesh-optin verify --all",
        By(
            "tests/node/agent/mod.rs",
            "the agent tells on the pod that it was redirected and that it drifted, and repairs it",
            r#"in_container(&["verify", "--all"])"#,
        ),
    ),
    // kubectl mesh-optin
    (
        "cargo build --locked --release --features kubectl --bin kubectl-mesh_optin",
        Not("tests/run builds it without optimization"),
    ),
    (
        "kubectl mesh-optin status",
        By(
            "tests/cluster/doctor/shown.rs",
            "the_cluster_and_its_pods_are_shown_as_they_are",
            r#"&["status"]"#,
        ),
    ),
    (
        "kubectl mesh-optin doctor",
        By(
            "tests/cluster/doctor/broken.rs",
            DOCTOR,
            "doctor_says(admin",
        ),
    ),
    (
        "kubectl mesh-optin doctor --pre -o short",
        By(
            "tests/cluster/doctor/broken.rs",
            DOCTOR,
            r#""doctor", "--pre", "-o", "short""#,
        ),
    ),
    (
        "kubectl mesh-optin explain web -n team-a",
        By(
            "tests/cluster/doctor/shown.rs",
            "the_cluster_and_its_pods_are_shown_as_they_are",
            r#""explain", "web""#,
        ),
    ),
    // a node without the agent
    (
        "install -m 0755 ./mesh-optin /opt/cni/bin/.mesh-optin.new && mv /opt/cni/bin/.mesh-optin.new /opt/cni/bin/mesh-optin",
        By("tests/stack/install", "", ".new\""),
    ),
    (
        "install -d -m 0700 /var/lib/mesh-optin/api && cd /var/lib/mesh-optin/api",
        By("tests/stack/install", "", "install -d -m 0700"),
    ),
    (
        "echo https://10.96.0.1:443 > server",
        By("tests/stack/install", "", "echo https://"),
    ),
    (
        r"kubectl get configmap kube-root-ca.crt -o jsonpath='{.data.ca\.crt}' > ca.crt",
        Not("the stack's control plane has the certificate as a file"),
    ),
    (
        "kubectl create token node -n mesh-optin --duration 24h > token",
        By(
            "tests/stack/install",
            "",
            "create token node -n mesh-optin --duration 24h",
        ),
    ),
    (
        r#"echo '{"cniVersion": "1.1.0", "name": "mesh", "type": "mesh-optin"}' | CNI_COMMAND=STATUS /opt/cni/bin/mesh-optin"#,
        By(
            "tests/kernel/plugin.rs",
            "the_verbs_without_a_pod_answer",
            "STATUS",
        ),
    ),
    // the way out
    (
        "helm upgrade mesh-optin deploy/helm/mesh-optin --namespace mesh-optin --reuse-values --set uninstall=true",
        By("tests/node/agent/helm.rs", CHART, "uninstall=true"),
    ),
    (
        "helm uninstall mesh-optin --namespace mesh-optin",
        By("tests/node/agent/helm.rs", CHART, "uninstall"),
    ),
    (
        "kubectl delete -k deploy/admission/networks --ignore-not-found",
        REMOVAL,
    ),
    (
        "kubectl delete -k deploy/admission/bindings --ignore-not-found",
        REMOVAL,
    ),
    (
        "kubectl delete -k deploy/controller --ignore-not-found",
        REMOVAL,
    ),
    (
        "kubectl delete network-attachment-definitions --all-namespaces --selector meshoptin.dev/profile",
        REMOVAL,
    ),
    (
        "kubectl delete network-attachment-definitions --all-namespaces --selector meshoptin.dev/shared",
        REMOVAL,
    ),
    (
        "kubectl -n mesh-optin delete daemonset mesh-optin-agent && kubectl apply -k deploy/uninstall",
        REMOVAL,
    ),
    (
        "kubectl -n mesh-optin rollout status daemonset/mesh-optin-uninstall",
        Not("the tests wait for what its container does, `agent uninstall`"),
    ),
    (
        "kubectl delete -k deploy/uninstall && kubectl delete -k deploy/kubernetes --ignore-not-found",
        REMOVAL,
    ),
    (
        "kubectl annotate crd meshprofiles.meshoptin.dev meshnodes.meshoptin.dev meshoptin.dev/allow-delete=true",
        REMOVAL,
    ),
    (
        "kubectl delete crd meshprofiles.meshoptin.dev meshnodes.meshoptin.dev",
        REMOVAL,
    ),
    (
        "kubectl delete clusterrole,clusterrolebinding mesh-optin-node mesh-optin-agent-nodes --ignore-not-found",
        REMOVAL,
    ),
    // the stack
    (
        "tests/stack/up thin bare",
        By(UP_AND_DOWN, BARE, r#"&["thin", "bare"]"#),
    ),
    (
        "tests/stack/enter helm install mesh-optin deploy/helm/mesh-optin --namespace mesh-optin --create-namespace --values /mnt/values.yaml",
        OF_README,
    ),
    (
        "tests/stack/enter kubectl -n team-a wait --for condition=Ready pod/web --timeout 60s",
        OF_README,
    ),
    (
        "tests/stack/enter kubectl -n team-a logs web -c app",
        OF_README,
    ),
    (
        "tests/stack/up thick",
        By(UP_AND_DOWN, DOWN, r#"script("up")"#),
    ),
    (
        "tests/stack/enter kubectl apply -f tests/stack/pods.yaml",
        By(UP_AND_DOWN, DOWN, r#""enter", &["kubectl", "apply""#),
    ),
    (
        "tests/stack/enter kubectl logs web -n team-a app",
        Not("it is for people; scenarios of tests/node read the same logs"),
    ),
    ("tests/stack/down", By(UP_AND_DOWN, DOWN, r#"run("down""#)),
];

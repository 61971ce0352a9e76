//! The commands with which the documentation comes from Istio's CNI plugin and goes back, and what runs each.

use super::commands::Shown::{self, By, Not};

const FROM_MULTUS: &str =
    "from istio-cni with provider multus and back, while its pods and ours talk";
const FROM_CHAINED: &str =
    "from chained istio-cni namespace by namespace and back, while its pods and ours talk";

/// Each command as it is shown, without its prompt and comment.
pub(super) const COMMANDS: &[(&str, Shown)] = &[
    (
        "helm install mesh-optin deploy/helm/mesh-optin --namespace mesh-optin --create-namespace --values values.yaml",
        By(
            "tests/node/migrating/multus.rs",
            FROM_MULTUS,
            "installed(s)",
        ),
    ),
    (
        "kubectl annotate --overwrite -n default network-attachment-definition istio-cni meta.helm.sh/release-name=mesh-optin meta.helm.sh/release-namespace=mesh-optin",
        By(
            "tests/node/migrating/multus.rs",
            FROM_MULTUS,
            "meta.helm.sh/release-name=mesh-optin meta.helm.sh/release-namespace=mesh-optin",
        ),
    ),
    (
        "helm upgrade mesh-optin deploy/helm/mesh-optin --namespace mesh-optin --reuse-values",
        By(
            "tests/node/migrating/multus.rs",
            FROM_MULTUS,
            "upgraded(s, &[])",
        ),
    ),
    (
        "helm uninstall istio-cni --namespace istio-system",
        By(
            "tests/node/migrating/multus.rs",
            FROM_MULTUS,
            "istio.uninstall()",
        ),
    ),
    (
        "helm install istio-cni istio/cni --namespace istio-system --values istio-cni.yaml --take-ownership --force-conflicts",
        By(
            "tests/node/migrating/multus.rs",
            FROM_MULTUS,
            r#"["--take-ownership", "--force-conflicts"]"#,
        ),
    ),
    (
        "kubectl annotate -n default network-attachment-definition istio-cni helm.sh/resource-policy=keep",
        By(
            "tests/node/migrating/multus.rs",
            FROM_MULTUS,
            "annotate {NAD} helm.sh/resource-policy=keep",
        ),
    ),
    (
        "kubectl annotate -n default network-attachment-definition istio-cni helm.sh/resource-policy-",
        By(
            "tests/node/migrating/multus.rs",
            FROM_MULTUS,
            "annotate {NAD} helm.sh/resource-policy-",
        ),
    ),
    (
        "helm upgrade istio-cni istio/cni --namespace istio-system --reuse-values --set 'excludeNamespaces={kube-system,shop}'",
        By(
            "tests/node/migrating/chained.rs",
            FROM_CHAINED,
            "istio.exclude(",
        ),
    ),
    (
        "kubectl -n istio-system rollout restart daemonset/istio-cni-node",
        By(
            "tests/node/migrating/chained.rs",
            FROM_CHAINED,
            "istio.exclude(",
        ),
    ),
    (
        "kubectl -n shop rollout restart deployment",
        Not("tests/node/migrating creates single pods"),
    ),
];

//! From istio-init, an init container that redirects its own pod with NET_ADMIN, and back.

use serde_json::json;

use super::{
    ATTACHMENT, installed, istio_cni, migrated, removed,
    traffic::{By, Talking},
};
use crate::{
    Scenario, THICK,
    agent::helm::ready,
    alone,
    support::{stack::Stack, stack_pod::Pod},
};

const NAMESPACE: &str = "initial";

/// With one Multus alone: istio-init knows nothing of it.
pub(super) const SCENARIO: Scenario = alone(
    "from istio-init and back, while its pods and ours talk",
    |s| {
        migrated(s, || {
            let labels = json!({"istio-injection": "enabled"});
            s.cluster.namespace(NAMESPACE, &labels);
            let mut talking = Talking::new(s);
            let starts = |talking: &mut Talking<'_>, name: &str, networks: &str| {
                let pod = Pod::new(NAMESPACE, name, networks);
                create(s, &pod);
                talking.joins(pod, By::Istio);
            };
            starts(&mut talking, "old-1", "");
            starts(&mut talking, "old-2", "");
            installed(s);
            ready(s, "mesh-optin-agent");
            // the injector now leaves the redirection to a plugin
            talking.start(Pod::new(NAMESPACE, "new-1", ATTACHMENT), By::Us);
            // a pod that still brings istio-init is left alone, even where it names the attachment
            starts(&mut talking, "old-3", "");
            starts(&mut talking, "old-4", ATTACHMENT);
            talking.end(&["old-1"]);
            // back
            starts(&mut talking, "again-1", "");
            removed(s, || talking.end(&["new-1", "old-4"]));
            talking.end(&["old-2", "old-3", "again-1"]);
            talking.note("istio-init, there and back");
        });
    },
)
.only_with(THICK);

/// Creates it with the init container of Istio's template.
fn create(s: &Stack, pod: &Pod) {
    let mut container = istio_cni::init_container("istio-init", &istio_cni::iptables_args(&[]));
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": false,
        "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
    });
    istio_cni::create_with(s, pod, &container);
}

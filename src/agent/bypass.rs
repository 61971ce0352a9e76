//! Pods that should be redirected and are not: those that never named the attachment, or whose sandbox the plugin was not called for.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::warn;

use super::{Agent, events::About, profiles::Chosen};
use crate::{
    deadline::Deadline,
    kernel::{KernelError, Netns, Network, Redirects, redirects},
    mesh::{Attachment, Decision, decide},
    reason::Reason,
    source::{Found, wire::Bypassing},
};

/// Where runtimes keep network namespaces.
const NETNS: &str = "/run/netns";
const PAUSE: Duration = Duration::from_millis(10);
/// For one namespace.
const LOOK: Duration = Duration::from_secs(5);

/// Looks for them among the running pods that have no live record (by UID), and tells of each. A pod's namespace is found by its
/// addresses.
pub(super) fn look(agent: &Agent, on_record: &HashSet<String>) -> Vec<Bypassing> {
    let should_be = |found: &Found| {
        let Ok(Chosen { profile, .. }) = agent.profiles.governing_now(found, None) else {
            return false;
        };
        let Found { pod, namespace } = found;
        let decided = decide(pod, namespace, Ok(&profile), &Attachment::default());
        matches!(decided.decision, Decision::Redirect(_))
    };
    let mut pods = agent.cache.running();
    pods.retain(|found| !on_record.contains(&found.pod.metadata.uid) && should_be(found));
    if pods.is_empty() {
        return Vec::new();
    }
    let unredirected = unredirected(Path::new(NETNS));
    let mut out = BTreeMap::new();
    for Found { pod, .. } in pods {
        let ips = pod
            .status
            .pod_ips
            .iter()
            .filter_map(|ip| ip.ip.parse::<IpAddr>().ok());
        let Some(netns) = ips.filter_map(|ip| unredirected.get(&ip)).next() else {
            continue;
        };
        let (namespace, name) = (pod.metadata.namespace, pod.metadata.name);
        let explanation =
            Reason::Bypassing.because("the pod should be redirected, but the plugin was not called for it and nothing redirects it");
        let explanation =
            explanation.remedy("let it name the attachment in k8s.v1.cni.cncf.io/networks and delete it so that it is recreated");
        warn!(
            namespace,
            name,
            reason = explanation.reason.as_str(),
            "{explanation}"
        );
        agent.events.tell(
            About {
                namespace: namespace.clone(),
                name: name.clone(),
                uid: pod.metadata.uid,
            },
            explanation,
            &agent.metrics,
        );
        out.insert((namespace, name), netns.clone());
    }
    out.into_iter()
        .map(|((namespace, name), netns)| Bypassing {
            namespace,
            name,
            netns,
        })
        .collect()
}

/// The addresses of eth0 in every network namespace in which nothing redirects.
fn unredirected(directory: &Path) -> HashMap<IpAddr, PathBuf> {
    let mut out = HashMap::new();
    for path in std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|e| Some(e.ok()?.path()))
    {
        let Ok(netns) = Netns::open(&path) else {
            continue;
        }; // it ends, or is the host's
        let looked = netns.run(|| {
            let deadline = Deadline::after(LOOK);
            if redirects(deadline)? != Redirects::Nothing {
                return Ok::<_, KernelError>(Vec::new());
            }
            Network::open(deadline)?.addresses_of_eth0()
        });
        match looked {
            Ok(addresses) => out.extend(addresses.into_iter().map(|ip| (ip, path.clone()))),
            Err(_) if !path.exists() => {} // it ended meanwhile
            Err(error) => warn!(
                "whether anything redirects {} cannot be told: {error}",
                path.display()
            ),
        }
        std::thread::sleep(PAUSE); // a little at a time
    }
    out
}

//! Running pods as they are, whatever is on record: those that should be redirected and are not, because they never named the attachment or the
//! plugin was not called for them; those that opted out; those that policy would refuse by now.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::warn;

use super::{Agent, events::About};
use crate::{
    deadline::Deadline,
    kernel::{KernelError, Netns, Network, Redirects, redirects},
    mesh::{Attachment, Decided, Decision, Metadata, annotation, decide},
    reason::{Explanation, Reason},
    source::{Found, wire::Bypassing},
};

/// Where runtimes keep network namespaces.
const NETNS: &str = "/run/netns";
const PAUSE: Duration = Duration::from_millis(10);
/// For one namespace.
const LOOK: Duration = Duration::from_secs(5);

/// What is found of the running pods by what they are, beside what is on record of them.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) bypassing: Vec<Bypassing>,
    /// Injected pods that were left alone, by their own word, and are not redirected.
    pub(super) opted_out: usize,
    /// Pods of the mesh that have no sidecar.
    pub(super) sidecar_missing: usize,
    /// Pods that run by policy that has changed: recreated, they would be refused.
    pub(super) policy_changed: usize,
}

/// What a pod's netns is looked at for.
enum Suspect {
    /// It should be redirected.
    Bypasses(Explanation),
    /// It may stay out.
    OptedOut,
}

/// Judges all running pods; those that have no live record (by UID) by their network namespaces, too, which are found by their addresses.
/// `known`: the UIDs of pods whose policy has changed, which were reported.
pub(super) fn look(
    agent: &Agent,
    on_record: &HashSet<String>,
    known: &mut HashSet<String>,
) -> Judged {
    let (mut judged, mut suspects, mut changed) = (Judged::default(), Vec::new(), HashSet::new());
    for found in agent.cache.running() {
        let decided = decide_now(agent, &found);
        let is_on_record = on_record.contains(&found.pod.metadata.uid);
        if let Some(why) = policy_changed(&decided, is_on_record) {
            judged.policy_changed += 1;
            let uid = found.pod.metadata.uid.clone();
            if !known.contains(&uid) {
                tell(
                    agent,
                    &found,
                    Reason::PolicyChanged
                        .because(format!("recreated, the pod would be refused: {why}")),
                );
            }
            changed.insert(uid);
        }
        judged.sidecar_missing += usize::from(decided.decision.reason() == Reason::SidecarMissing);
        if !is_on_record {
            suspects.extend(suspect(&found, &decided).map(|suspect| (found, suspect)));
        }
    }
    *known = changed;
    if suspects.is_empty() {
        return judged;
    }
    let (unredirected, mut bypassing) = (unredirected(Path::new(NETNS)), BTreeMap::new());
    for (found, suspect) in suspects {
        let ips = found.pod.status.pod_ips.iter();
        let ips = ips.filter_map(|ip| ip.ip.parse::<IpAddr>().ok());
        let Some(netns) = ips.filter_map(|ip| unredirected.get(&ip)).next() else {
            continue;
        };
        match suspect {
            Suspect::OptedOut => judged.opted_out += 1,
            Suspect::Bypasses(why) => {
                let Metadata {
                    namespace, name, ..
                } = &found.pod.metadata;
                bypassing.insert((namespace.clone(), name.clone()), netns.clone());
                tell(agent, &found, why);
            }
        }
    }
    let bypassing = bypassing.into_iter();
    judged.bypassing = bypassing
        .map(|((namespace, name), netns)| Bypassing {
            namespace,
            name,
            netns,
        })
        .collect();
    judged
}

/// What an ADD would do now.
fn decide_now(agent: &Agent, found: &Found) -> Decided {
    let Found { pod, namespace } = found;
    let chosen = agent.profiles.governing_now(found, None);
    let profile = chosen.as_ref().map(|chosen| &chosen.profile);
    decide(pod, namespace, profile, &Attachment::default())
}

/// Why a pod that runs would be refused if it were recreated as a new one, or could not be redirected again.
fn policy_changed(decided: &Decided, is_on_record: bool) -> Option<String> {
    let stranded = match &decided.decision {
        Decision::Refuse(why) if is_on_record && why.reason != Reason::AgentUnavailable => {
            Some(why)
        }
        Decision::Refuse(_) | Decision::Redirect(_) | Decision::Skip(_) => None,
    };
    let tolerated = decided.tolerated.as_ref().filter(|_| is_on_record);
    stranded
        .or(tolerated)
        .map(|why| format!("{}: {}", why.reason, why.cause))
}

/// What a pod is that nothing is on record of.
fn suspect(found: &Found, decided: &Decided) -> Option<Suspect> {
    let bypasses = |why: &str| {
        let why = Reason::Bypassing.because(why).remedy(
            "add the attachment to k8s.v1.cni.cncf.io/networks in the workload's template, then delete the pod",
        );
        Some(Suspect::Bypasses(why))
    };
    match &decided.decision {
        Decision::Redirect(_) => bypasses(
            "the pod should be redirected, but the plugin was not called for it and nothing redirects it",
        ),
        Decision::Skip(skip)
            if decided
                .tolerated
                .as_ref()
                .is_some_and(|t| t.reason == Reason::OptOutNotAllowed) =>
        {
            bypasses(&format!(
                "the pod must not stay out of the mesh, but nothing redirects it: {}",
                skip.cause
            ))
        }
        Decision::Skip(_) => {
            let is_sidecar = found
                .pod
                .proxy()
                .is_some_and(|proxy| proxy.other_proxy().is_none());
            let is_injected = found.pod.annotation(annotation::STATUS).is_some();
            (is_sidecar && is_injected).then_some(Suspect::OptedOut)
        }
        Decision::Refuse(_) => None,
    }
}

fn tell(agent: &Agent, found: &Found, explanation: Explanation) {
    let Metadata {
        namespace,
        name,
        uid,
        ..
    } = &found.pod.metadata;
    warn!(
        namespace,
        name,
        reason = explanation.reason.as_str(),
        "{explanation}"
    );
    let about = About {
        namespace: namespace.clone(),
        name: name.clone(),
        uid: uid.clone(),
    };
    agent.events.tell(about, explanation, &agent.metrics);
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

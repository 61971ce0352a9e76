//! Judges running pods, whatever their records say: finds those that should be redirected and are not (they never referenced the
//! attachment, or the plugin was not called), those that opted out, and those that the current profile would refuse.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::warn;

use super::{
    counts::{Counts, PodState, ProblemKind},
    profiles::{Profiles, Ungoverned},
    shared::Agent,
};
use crate::{
    deadline::Deadline,
    kernel::{KernelError, Netns, Network, Redirects, redirects},
    mesh::{Attachment, Decided, Decision, Metadata, Pod, annotation, decide},
    node::{attachments, paths},
    reason::{Explanation, Reason},
    redirection::Verdict,
    source::{FoundPod, wire::Bypassing},
    telemetry::PodKey,
};

const PAUSE: Duration = Duration::from_millis(10);
/// How long reading one network namespace may take.
const LOOK: Duration = Duration::from_secs(5);

/// Why a pod's network namespace is read.
enum Suspect {
    /// It should be redirected.
    Bypasses(Explanation),
    /// It may stay out.
    OptedOut,
}

impl Suspect {
    /// Whether what redirects its network namespace may be ours, on a record that cannot be read.
    fn may_be_ours(&self, are_records_read: bool) -> bool {
        match self {
            Self::Bypasses(_) => !are_records_read,
            Self::OptedOut => false,
        }
    }
}

/// Judges all running pods; those without a live record (by UID) also by their network namespaces, which are found by address. `known`: the
/// UIDs of pods that were reported already. Returns the pods that bypass the mesh.
pub(super) fn look(
    agent: &Agent,
    on_record: &HashSet<String>,
    known: &mut HashSet<String>,
    counts: &mut Counts,
) -> Vec<Bypassing> {
    let (mut suspects, mut reported) = (Vec::new(), HashSet::new());
    for pod in agent.cache.without_namespace() {
        if !on_record.contains(&pod.metadata.uid) {
            counts.add(PodState::Unaudited, key_of(&pod));
        }
    }
    for mut found in agent.cache.running() {
        let spec = &mut found.pod.spec;
        spec.runtime_handler = agent.cluster.cached_handler(&spec.runtime_class_name);
        let Judged {
            decided,
            profile,
            is_undecidable,
            is_known,
        } = decide_now(&agent.profiles, &found);
        let uid = &found.pod.metadata.uid;
        counts.profiles.extend(profile);
        let is_on_record = on_record.contains(uid);
        let mut once = |why| {
            if !known.contains(uid) {
                report(agent, &found, why);
            }
            reported.insert(uid.clone());
        };
        let changed = policy_changed(&decided).filter(|_| is_on_record && is_known);
        if let Some(why) = changed {
            counts.policy_changed += 1;
            counts.add_problem(ProblemKind::PolicyChanged, key_of(&found.pod));
            let cause = format!("recreated, the pod would be refused: {why}");
            once(Reason::PolicyChanged.because(cause));
        }
        if is_on_record {
            continue;
        }
        if let Some(why) = decided.missing_sidecar {
            counts.add(PodState::SidecarMissing, key_of(&found.pod));
            once(why);
        } else if is_undecidable && found.pod.proxy().is_some() {
            counts.add(PodState::Unaudited, key_of(&found.pod));
        } else {
            suspects.extend(suspect(&found, &decided).map(|suspect| (found, suspect)));
        }
    }
    *known = reported;
    if suspects.is_empty() {
        return Vec::new();
    }
    let are_records_read = counts.unreadable_records == 0 && attachments::ensure_listable().is_ok();
    let (netns, mut bypassing) = (index_by_address(&paths::NETNS.map(Path::new)), Vec::new());
    for (found, suspect) in suspects {
        let ips = found.pod.status.pod_ips.iter();
        let ips = ips.filter_map(|ip| ip.ip.parse::<IpAddr>().ok());
        match ips.filter_map(|ip| netns.get(&ip)).next() {
            None => counts.add(PodState::Unaudited, key_of(&found.pod)),
            // else something else redirects it: istio-init, or an earlier plugin
            Some(InNetns {
                redirects: true, ..
            }) if suspect.may_be_ours(are_records_read) => {
                counts.add(PodState::Unaudited, key_of(&found.pod));
            }
            Some(InNetns {
                redirects: true, ..
            }) => {}
            Some(InNetns { path, .. }) => match suspect {
                Suspect::OptedOut => counts.add(PodState::OptedOut, key_of(&found.pod)),
                Suspect::Bypasses(why) => {
                    counts.add(
                        PodState::Redirection(Verdict::Bypassing),
                        key_of(&found.pod),
                    );
                    let Metadata {
                        namespace, name, ..
                    } = &found.pod.metadata;
                    bypassing.push(Bypassing {
                        namespace: namespace.clone(),
                        name: name.clone(),
                        netns: path.clone(),
                    });
                    report(agent, &found, why);
                }
            },
        }
    }
    bypassing.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    bypassing
}

/// What an ADD of a pod would do now.
struct Judged {
    decided: Decided,
    /// Of a pod with a sidecar, the name and version of the profile that decides.
    profile: Option<(String, String)>,
    /// It is refused for want of a profile.
    is_undecidable: bool,
    /// The profiles are known.
    is_known: bool,
}

fn decide_now(profiles: &Profiles, found: &FoundPod) -> Judged {
    let FoundPod { pod, namespace } = found;
    let chosen = profiles.governing_now(found, None);
    let is_known = !matches!(chosen, Err(Ungoverned::NotYet));
    let chosen = chosen.map_err(Explanation::from);
    let profile = chosen.as_ref().map(|chosen| &chosen.profile);
    let decided = decide(pod, namespace, profile, &Attachment::default());
    let refused = match &decided.decision {
        Decision::Refuse(why) => Some(why),
        Decision::Redirect(_) | Decision::Skip(_) => None,
    };
    let is_undecidable = profile.err().is_some_and(|why| refused == Some(why));
    let in_use = profile.ok().filter(|_| pod.proxy().is_some());
    let profile = in_use.map(|p| (p.name.clone(), p.resource_version.clone()));
    Judged {
        decided,
        profile,
        is_undecidable,
        is_known,
    }
}

/// Why a pod that runs would be refused if it were recreated as a new one, or could not be redirected again.
fn policy_changed(decided: &Decided) -> Option<String> {
    let stranded = match &decided.decision {
        Decision::Refuse(why) => Some(why),
        Decision::Redirect(_) | Decision::Skip(_) => None,
    };
    let why = stranded.or(decided.tolerated.as_ref())?;
    Some(format!("{}: {}", why.reason, why.cause))
}

/// Judges a pod that has no record.
fn suspect(found: &FoundPod, decided: &Decided) -> Option<Suspect> {
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
        Decision::Skip(skip) if decided.stays_out => bypasses(&format!(
            "the pod must not stay out of the mesh, but nothing redirects it: {}",
            skip.cause
        )),
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

fn report(agent: &Agent, found: &FoundPod, explanation: Explanation) {
    let about = key_of(&found.pod);
    warn!(
        namespace = about.namespace,
        name = about.name,
        reason = explanation.reason.as_str(),
        "{explanation}"
    );
    agent.tell(about, explanation);
}

fn key_of(pod: &Pod) -> PodKey {
    let Metadata {
        namespace,
        name,
        uid,
        ..
    } = pod.metadata.clone();
    PodKey {
        namespace,
        name,
        uid,
    }
}

/// The network namespace that an address is in.
struct InNetns {
    path: PathBuf,
    /// Whether something redirects there.
    redirects: bool,
}

/// The network namespaces of this node, by the addresses of eth0 in them.
fn index_by_address(directories: &[&Path]) -> HashMap<IpAddr, InNetns> {
    let (mut out, mut seen) = (HashMap::new(), HashSet::new());
    for path in directories
        .iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flatten()
        .filter_map(|e| Some(e.ok()?.path()))
    {
        let identity = std::fs::metadata(&path).map(|m| (m.dev(), m.ino())).ok();
        if !seen.insert(identity) {
            continue;
        }
        let Ok(netns) = Netns::open(&path) else {
            continue;
        }; // it ends, or is the host's
        let looked = netns.run(|| {
            let deadline = Deadline::after(LOOK);
            let redirects = redirects(deadline)? != Redirects::Nothing;
            let addresses = Network::open(deadline)?.addresses_of_eth0()?;
            Ok::<_, KernelError>((redirects, addresses))
        });
        match looked {
            Ok((redirects, addresses)) => out.extend(addresses.into_iter().map(|ip| {
                let path = path.clone();
                (ip, InNetns { path, redirects })
            })),
            Err(_) if !path.exists() => {} // it ended meanwhile
            Err(error) => warn!(
                "whether anything redirects {} is unknown: {error}",
                path.display()
            ),
        }
        std::thread::sleep(PAUSE); // a little at a time
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::agent::fixtures;

    fn judged(profiles: Option<Value>, pod: Value) -> (Judged, FoundPod) {
        let profiles = profiles.map(|spec| fixtures::profiles(&[("p", spec)]));
        let profiles = Profiles::of(profiles.flatten());
        let found = FoundPod {
            pod: serde_json::from_value(pod).unwrap(),
            namespace: serde_json::from_value(fixtures::namespace()).unwrap(),
        };
        (decide_now(&profiles, &found), found)
    }

    fn reason_of(suspect: Option<Suspect>) -> &'static str {
        match suspect {
            None => "none",
            Some(Suspect::OptedOut) => "opted out",
            Some(Suspect::Bypasses(why)) => why.reason.as_str(),
        }
    }

    #[test]
    fn a_running_pod_without_a_record_is_suspected_where_an_add_would_redirect_it() {
        let (injected, plain) = (
            fixtures::pod("a", "1", true),
            fixtures::pod("b", "2", false),
        );
        let mut opted_out = injected.clone();
        opted_out["metadata"]["labels"] = json!({"sidecar.istio.io/inject": "false"});
        opted_out["spec"]["containers"][1]["env"] =
            json!([{"name": "DISABLE_ENVOY", "value": "true"}]);
        let mut ran = opted_out.clone();
        ran["status"]["containerStatuses"] =
            json!([{"name": "app", "containerID": "containerd://1"}]);
        let selector = json!({"matchLabels": {"istio-injection": "enabled"}});
        let must_stay = json!({"namespaces": selector, "tenants": {"mayOptOut": false}});
        for (what, spec, pod, suspected) in [
            ("injected", json!({}), &injected, "Bypassing"),
            ("opted out", json!({}), &opted_out, "opted out"),
            (
                "opted out, never allowed",
                must_stay.clone(),
                &opted_out,
                "none",
            ),
            ("opted out, no longer allowed", must_stay, &ran, "Bypassing"),
        ] {
            let (judged, found) = judged(Some(spec), pod.clone());
            let suspect = suspect(&found, &judged.decided);
            let may_be_ours = [true, false].map(|are_read| {
                let suspect = suspect.as_ref();
                suspect.is_some_and(|suspect| suspect.may_be_ours(are_read))
            });
            assert_eq!(may_be_ours, [false, suspected == "Bypassing"], "{what}");
            assert_eq!(
                reason_of(suspect),
                suspected,
                "{what}: {:?}",
                judged.decided
            );
            assert!(
                judged.decided.missing_sidecar.is_none() && !judged.is_undecidable,
                "{what}"
            );
        }
        let (judged, _) = judged(Some(json!({})), plain);
        assert!(judged.decided.missing_sidecar.is_some());
    }

    #[test]
    fn a_pod_for_which_no_profile_is_known_is_undecidable() {
        let pod = fixtures::pod("a", "1", true);
        let (unknown, _) = judged(None, pod.clone());
        assert!(unknown.is_undecidable && !unknown.is_known);
        let selected = json!({"namespaces": {"matchLabels": {"other": "yes"}}});
        let (ungoverned, _) = judged(Some(selected), pod.clone());
        assert!(ungoverned.is_undecidable && ungoverned.is_known && ungoverned.profile.is_none());
        assert!(
            policy_changed(&ungoverned.decided)
                .unwrap()
                .starts_with("UnknownProfile: ")
        );
        let (governed, _) = judged(Some(json!({})), pod);
        assert!(!governed.is_undecidable && policy_changed(&governed.decided).is_none());
        assert_eq!(governed.profile.unwrap().0, "p");
    }
}

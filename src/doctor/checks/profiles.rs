use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::{Facts, Looked};
use crate::{
    doctor::{
        facts::{AGENT, MOST_EVENTS},
        objects::ProfileObject,
    },
    mesh::{Namespace, Pod, annotation, candidates, expects, is_namespace_enrolled},
    multus::{AttachmentDefinition, our_attachment, parse_networks},
    profile::{DefaultProfile, Enrollment, Placement, Profile},
    reason::names,
};

/// Whose attachments every namespace may name.
const SHARED: &str = "default";

pub(super) fn accepted(facts: &Facts, looked: &mut Looked) {
    let Some(profiles) = looked.see(&facts.profiles) else {
        return;
    };
    let Some(profiles) = profiles else {
        let object = "meshprofiles.meshoptin.dev";
        let message =
            "the kind MeshProfile is not served: nodes have the built-in profile, or files";
        looked.advice(object, message, "install the chart, which has the CRDs");
        return;
    };
    let has_controller = match looked.list(&facts.controllers) {
        Some(controllers) => !controllers.is_empty(),
        None => false,
    };
    for object in profiles {
        of_profile(looked, object, has_controller);
    }
    if profiles.is_empty() {
        return; // what governs then is another check's
    }
    let Some(namespaces) = looked.list(&facts.namespaces) else {
        return;
    };
    let all: Vec<_> = profiles.iter().map(|p| &p.profile).collect();
    let (mut ungoverned, mut ambiguous) = (Vec::new(), Vec::new());
    for namespace in namespaces {
        let name = namespace.metadata.name.as_str();
        match candidates(&all, &namespace.metadata.labels).as_slice() {
            [] if is_namespace_enrolled(&Enrollment::default(), namespace) => ungoverned.push(name),
            [] | [_] => {}
            several => {
                let by: Vec<_> = several.iter().map(|p| p.name.as_str()).collect();
                ambiguous.push(format!("{name} ({})", names(&by)));
            }
        }
    }
    if !ambiguous.is_empty() {
        looked.error(
            format!("namespaces {}", names(&ambiguous)),
            "several MeshProfiles govern them: their pods are refused",
            "make the profiles' selectors (spec.namespaces) disjoint",
        );
    }
    if !ungoverned.is_empty() {
        looked.error(
            format!("namespaces {}", names(&ungoverned)),
            "they are in the mesh, and no MeshProfile governs them: their pods are refused",
            "create a MeshProfile without spec.namespaces, which governs all the rest",
        );
    }
}

fn of_profile(looked: &mut Looked, object: &ProfileObject, has_controller: bool) {
    let at = format!("MeshProfile {}", object.profile.name);
    let see = format!("kubectl get meshprofile {} -o yaml", object.profile.name);
    if let Some(unreadable) = &object.profile.unreadable {
        looked.error(
            &at,
            format!("it cannot be read: {}", unreadable.why),
            "correct it, or use the programs of the version that it is for",
        );
    }
    // where there is a controller, its condition says so
    let breaks = object.breaks.as_ref().filter(|_| !has_controller);
    if let (Some(rule), None) = (breaks, &object.profile.unreadable) {
        looked.error(
            &at,
            format!("it breaks a rule of its CRD: {rule}"),
            "correct it: the API server refuses changes of that part of it, and refuses to create it again",
        );
    }
    let conditions = &object.status.conditions;
    let is_stale = object.status.observed_generation != object.generation;
    match conditions.iter().find(|c| c.type_ == "Ready") {
        Some(ready) if ready.status != "True" => {
            let message = format!("it is not ready: {}: {}", ready.reason, ready.message);
            match ready.reason.as_str() {
                "Suspended" => looked.warning(&at, message, "set spec.suspended to false"),
                _ => looked.error(&at, message, see),
            }
        }
        Some(_) if !is_stale => {}
        Some(_) | None if has_controller => looked.warning(
            &at,
            "its status does not describe its current generation: the controller is away",
            "see the log of Deployment mesh-optin-controller",
        ),
        Some(_) | None => {} // nobody writes one
    }
}

pub(super) fn default_profile(facts: &Facts, looked: &mut Looked) {
    let Some(profiles) = looked.see(&facts.profiles) else {
        return;
    };
    let Some(daemon_sets) = looked.list(&facts.daemon_sets) else {
        return;
    };
    if Facts::agents(daemon_sets).is_none() {
        return;
    }
    let default = match Facts::default_profile(daemon_sets) {
        Ok(default) => default,
        Err(why) => return looked.not_said(format!("--default-profile of the agents: {why}")),
    };
    let at = format!("DaemonSet {AGENT}");
    match (profiles.map(|p| p.is_empty()), default) {
        (Some(false), DefaultProfile::BuiltIn) => looked.advice(
            at,
            "if the last MeshProfile is deleted by mistake, the built-in one governs all namespaces",
            "set the chart's value defaultProfile: Required",
        ),
        (Some(true), DefaultProfile::BuiltIn) => looked.advice(
            "MeshProfiles",
            "there is none: the built-in profile governs all namespaces",
            "create one: crds/README.md has an example with every default",
        ),
        (Some(true), DefaultProfile::Auto | DefaultProfile::Required)
        | (None, DefaultProfile::Required) => looked.error(
            "MeshProfiles",
            format!("there is none, and agents have --default-profile={default}: new pods of the mesh are refused"),
            "create one: crds/README.md has an example with every default",
        ),
        (Some(_) | None, _) => {}
    }
}

pub(super) fn attachments(facts: &Facts, looked: &mut Looked) {
    let seen = looked
        .list(&facts.profiles)
        .zip(looked.list(&facts.namespaces));
    let Some((profiles, namespaces)) = seen else {
        return;
    };
    let Some(attachments) = looked.list(&facts.attachments) else {
        return;
    };
    let profiles = Facts::deciding(profiles);
    let all: Vec<_> = profiles.iter().collect();
    for profile in &profiles {
        let attachment = &profile.spec.attachment;
        let others = profiles.iter().take_while(|p| p.name != profile.name);
        let is_first = !others
            .into_iter()
            .any(|p| p.spec.attachment.name == attachment.name);
        if is_first && attachment.placement != Placement::None {
            let remedy = "let the chart make it (attachment.create), or install the controller (controller.enabled)";
            one(looked, attachments, SHARED, &attachment.name, remedy);
        }
    }
    for namespace in namespaces {
        if let Some(profile) = governs(&all, namespace)
            && profile.spec.attachment.placement == Placement::PerNamespace
            && namespace.metadata.name != SHARED
        {
            let remedy = "see why the controller has not made it: kubectl get meshprofiles -o yaml";
            let name = &profile.spec.attachment.name;
            one(looked, attachments, &namespace.metadata.name, name, remedy);
        }
    }
    not_found(facts, looked, attachments, |pod| {
        let at = &pod.metadata.namespace;
        let namespace = namespaces.iter().find(|n| n.metadata.name == *at);
        namespace.is_some_and(|namespace| {
            let is_expected = |profile: &&Profile| expects(profile, namespace, pod);
            let profile = governs(&all, namespace);
            let has_proxy = pod.proxy().is_some() || pod.asks_for_sidecar();
            profile.is_some_and(|profile| has_proxy || is_expected(&profile))
        })
    });
}

/// Multus tries again at least this often, as long as the pod is there.
const RECENT: SignedDuration = SignedDuration::from_mins(15);

/// Says which attachments Multus has not found lately that pods of the mesh name, unless they are there by now.
fn not_found(
    facts: &Facts,
    looked: &mut Looked,
    attachments: &[AttachmentDefinition],
    is_of_mesh: impl Fn(&Pod) -> bool,
) {
    let events = looked.list(&facts.not_found).unwrap_or_default();
    if events.is_empty() {
        return;
    }
    if events.len() >= MOST_EVENTS {
        looked.not_said(format!(
            "only {MOST_EVENTS} Events with the reason NoNetworkFound are looked at"
        ));
    }
    let pods = looked.list(&facts.pods).unwrap_or_default();
    let pods: BTreeMap<_, _> = pods.iter().map(|p| (p.metadata.uid.as_str(), p)).collect();
    let mut waiting: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for event in events {
        let since = event.time().map(|time| facts.now().duration_since(time));
        let is_recent = since.is_some_and(|since| since <= RECENT);
        let pod = pods.get(event.involved_object.uid.as_str());
        let (true, Some(pod), Some((namespace, name))) = (is_recent, pod, event.attachment())
        else {
            continue;
        };
        // that it was not found is the Event's word, which others may write; that the pod names it is the pod's
        let networks = pod.annotation(annotation::NETWORKS).unwrap_or_default();
        let named = parse_networks(networks, &pod.metadata.namespace).unwrap_or_default();
        let is_named = named.iter().any(|(n, a)| n == namespace && a == name);
        if is_named && is_of_mesh(pod) {
            let pod = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
            waiting.entry((namespace, name)).or_default().insert(pod);
        }
    }
    for ((namespace, name), pods) in waiting {
        let at = format!("NetworkAttachmentDefinition {namespace}/{name}");
        let is_there = attachments
            .iter()
            .any(|a| a.namespace == namespace && a.name == name);
        let is_reported = looked.findings.iter().any(|finding| finding.object == at);
        let is_out_of_sight = |scope: &String| scope != namespace && namespace != SHARED;
        if facts.scope.as_ref().is_some_and(is_out_of_sight) {
            looked.not_said(format!(
                "whether {at}, which Multus did not find, is there by now"
            ));
        } else if !is_there && !is_reported {
            let pods: Vec<_> = pods.into_iter().collect();
            looked.error(
                at,
                format!("Multus did not find it (Event NoNetworkFound): pods {} do not start", names(&pods)),
                format!("correct the annotation {} of their workloads, or create it: kubectl -n {namespace} get network-attachment-definitions", annotation::NETWORKS),
            );
        }
    }
}

/// The profile that governs a namespace, and does not exclude it.
fn governs<'a>(profiles: &[&'a Profile], namespace: &Namespace) -> Option<&'a Profile> {
    match candidates(profiles, &namespace.metadata.labels).as_slice() {
        [one] if one.unreadable.is_none() && !one.spec.excludes(&namespace.metadata.name) => {
            Some(one)
        }
        _ => None,
    }
}

/// An attachment that pods name.
fn one(
    looked: &mut Looked,
    all: &[AttachmentDefinition],
    namespace: &str,
    name: &str,
    remedy: &str,
) {
    let at = format!("NetworkAttachmentDefinition {namespace}/{name}");
    let found = all
        .iter()
        .find(|a| a.namespace == namespace && a.name == name);
    let Some(found) = found else {
        looked.error(
            at,
            "it is not there: pods that name it do not start",
            remedy,
        );
        return;
    };
    let delete = format!("kubectl -n {namespace} delete network-attachment-definition {name}");
    // without a configuration the node's file of that name counts, which agents keep
    match found.config.as_deref().map(our_attachment) {
        None | Some(Ok(Some(_))) => {}
        Some(Ok(None)) => looked.error(
            at,
            "it calls another plugin: pods that name it are not in the mesh",
            delete,
        ),
        Some(Err(why)) => looked.error(at, format!("pods that name it are refused: {why}"), delete),
    }
}

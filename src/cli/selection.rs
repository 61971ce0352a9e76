//! Resolves what was typed to pods with their namespaces, profiles and attachments.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;

use super::root::Root;
use crate::{
    cni::PodRef,
    deadline::Deadline,
    explain::{Case, Objects, OnNode, network},
    mesh::{Attachment, Pod, annotation},
    node::{
        NodeConfig,
        attachments::{self, Record},
        paths, profiles,
    },
    plan::{PodNetwork, packet::Family},
    profile::Profile,
    reason::{Explanation, Reason},
    source::{
        Answered, Governing, last_outcome, look_up,
        manifests::{EXTENSIONS, Object, RuntimeClass, parse},
    },
    terminal::CommandFailure,
};

/// How long the agent may take to report a pod's last outcome.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The pods, and the files that they are in.
#[derive(clap::Args)]
pub(super) struct PodSelection {
    /// The name of a pod or workload [default: all that the files contain]. Without files, a pod of this node
    pod: Option<String>,
    /// The pod's namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// A YAML or JSON file, or a directory of them, with Pods or workloads, Namespaces, NetworkAttachmentDefinitions and MeshProfiles
    #[arg(short, long = "file", value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    root: Root,
    /// The address families of eth0 [default: those of status.podIPs, else v4]
    #[arg(long, value_delimiter = ',', value_name = "v4,v6")]
    family: Vec<Ip>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ip {
    V4,
    V6,
}

impl PodSelection {
    /// Reads the files and decides on each pod.
    pub(super) fn cases(&self) -> Result<Vec<Case>, CommandFailure> {
        if self.files.is_empty() {
            self.root.enter()?;
            return Ok(vec![self.live_case()?]);
        }
        let (mut all, mut classes) = (Objects::default(), Vec::new());
        for file in &self.files {
            read(file, &mut all, &mut classes)?;
        }
        for pod in &mut all.pods {
            classes.iter().for_each(|c| c.complete(pod));
        }
        if all.profiles.is_empty() {
            all.profiles.push(Profile::built_in());
        }
        let wanted = |p: &&Pod| {
            self.pod
                .as_ref()
                .is_none_or(|name| *name == p.metadata.name)
                && self
                    .namespace
                    .as_ref()
                    .is_none_or(|n| *n == p.metadata.namespace)
        };
        let pods: Vec<_> = all.pods.iter().filter(wanted).collect();
        if pods.is_empty() {
            return Err(CommandFailure::usage("the files hold no such pod"));
        }
        let case = |pod: &Pod| {
            Case::of(pod, &all, self.network()).map_err(|_no_namespace| {
                CommandFailure::usage(format!(
                    "the files hold no Namespace {}, which pod {} is in",
                    pod.metadata.namespace, pod.metadata.name
                ))
            })
        };
        pods.into_iter().map(case).collect()
    }

    /// A pod as the plugin would see it now, except for its attachment's settings, which are not known here.
    fn live_case(&self) -> Result<Case, CommandFailure> {
        let (Some(name), Some(namespace)) = (&self.pod, &self.namespace) else {
            return Err(CommandFailure::usage(
                "give manifests with --file or, on a node, a pod and its --namespace",
            ));
        };
        let failed = |e: Explanation| CommandFailure::failed(e.to_string());
        let node = NodeConfig::load().map_err(failed)?;
        let asked = PodRef {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: None,
        };
        let Answered {
            found,
            governing,
            conversation,
            source,
        } = look_up(&node, &asked, None, Deadline::after(node.deadline)).map_err(failed)?;
        if let Some(conversation) = conversation {
            conversation.report(None);
        }
        let governing = match governing {
            Some(governing) => governing,
            None => Governing::choose(profiles(node.default_profile), &found, None),
        };
        let (pod, namespace) = (&found.pod, &found.namespace);
        let silent = Attachment::default();
        let network = self.network().unwrap_or_else(|| network(pod));
        let profile = governing.profile.as_ref();
        let mut case = Case::decide_under(pod, namespace, profile, &silent, &network, false);
        let now = Timestamp::now();
        case.read = Some(format!(
            "the pod and its namespace at {now:.0}, through source {source}"
        ));
        attachments::ensure_listable().map_err(failed)?;
        let records = attachments::all();
        match attachments::unreadable() {
            0 => look_at_node(&mut case, &records),
            unreadable => {
                return Err(CommandFailure::failed(format!(
                    "what was made for the pod is unknown: {unreadable} of the records in {} cannot be read",
                    paths::ATTACHMENTS
                )));
            }
        }
        if case.on_node == Some(OnNode::Nothing)
            && let Some(outcome) = last_outcome(&found.pod.metadata.uid, Deadline::after(AT_ONCE))
        {
            let how = if outcome.report.refused {
                "refused"
            } else {
                "left alone"
            };
            let (at, why) = (outcome.at, Explanation::from(outcome.report.outcome));
            case.on_node = Some(OnNode::Decided(format!("{how} at {at:.0}: {why}")));
        }
        Ok(case)
    }

    /// The family, for formats that hold only one.
    pub(super) fn one_family(&self, pod: &Pod) -> Result<Family, CommandFailure> {
        let network = self.network().unwrap_or_else(|| network(pod));
        match (network.ipv4, network.ipv6) {
            (true, false) => Ok(Family::Ipv4),
            (false, true) => Ok(Family::Ipv6),
            _ => Err(CommandFailure::usage(
                "--format iptables takes one family: give --family v4 or --family v6",
            )),
        }
    }

    /// The families that eth0 will have, if they were given.
    fn network(&self) -> Option<PodNetwork> {
        let has = |ip| self.family.contains(&ip);
        (!self.family.is_empty()).then(|| PodNetwork::of_eth0(has(Ip::V4), has(Ip::V6)))
    }
}

/// Adds the pod's record; warns if the pod should be redirected and has none.
fn look_at_node(case: &mut Case, records: &[Record]) {
    let uid = &case.pod.metadata.uid;
    let record = records
        .iter()
        .find(|record| record.uid == *uid && record.done);
    let Some(record) = record else {
        case.on_node = Some(OnNode::Nothing);
        let networks = case.pod.annotation(annotation::NETWORKS);
        if case.plan.is_ok() && networks.is_none_or(str::is_empty) {
            case.names_none("the pod names no attachment");
        } else if case.plan.is_ok() && case.pod.has_run() {
            let cause = "the pod runs, and no record on this node says that it was redirected";
            let remedy = "see whether an attachment that it names is of type mesh-optin, then delete the pod";
            let warning = Reason::Bypassing.because(cause).remedy(remedy);
            case.decided.warnings.push(warning);
        }
        return;
    };
    case.on_node = Some(OnNode::Made(format!(
        "redirected at {} by version {} with {}, under MeshProfile {}{}; `mesh-optin verify` says whether it still is",
        record.made,
        record.version,
        record.backend,
        record.profile,
        match record.profile_version.as_str() {
            "" => String::new(),
            version => format!(" (resourceVersion {version})"),
        }
    )));
}

/// Reads what a file, or each file of a directory, holds.
fn read(
    path: &Path,
    into: &mut Objects,
    classes: &mut Vec<RuntimeClass>,
) -> Result<(), CommandFailure> {
    let failed = |e: std::io::Error| CommandFailure::failed(format!("{}: {e}", path.display()));
    if path.is_dir() {
        let mut files: Vec<_> = std::fs::read_dir(path)
            .map_err(failed)?
            .filter_map(|e| Some(e.ok()?.path()))
            .collect();
        files.retain(|f| {
            f.is_file()
                && f.extension()
                    .and_then(|e| e.to_str())
                    .is_some_and(|e| EXTENSIONS.contains(&e))
        });
        files.sort();
        return files.iter().try_for_each(|f| read(f, into, classes));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    for object in parse(&text, path).map_err(CommandFailure::failed)? {
        match object {
            Object::Pod(pod) => into.pods.push(*pod),
            Object::Namespace(namespace) => into.namespaces.push(namespace),
            Object::Attachment(attachment) => into.attachments.push(attachment),
            Object::Profile(profile) => into.profiles.push(*profile),
            Object::RuntimeClass(class) => classes.push(class),
        }
    }
    Ok(())
}

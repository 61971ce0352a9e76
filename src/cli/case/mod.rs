//! Resolves what was typed to pods with their namespaces, profiles and attachments.

mod objects;

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;

use self::objects::Objects;
use super::{Failure, root::Root};
use crate::{
    cni::PodRef,
    deadline::Deadline,
    mesh::{
        Attachment, Decided, Decision, Namespace, Pod, Profile, annotation, assume_injected,
        explain, governing,
    },
    node::{
        NodeConfig,
        attachments::{self, Record},
        paths, profiles,
    },
    plan::{Plan, PodNetwork, packet::Family},
    reason::{Explanation, Reason},
    redirection::MOST_ATTACHMENTS,
    source::{Answered, Governing, decided, look_up},
};

/// How long the agent may take to report a pod's last outcome.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The pods, and the files that they are in.
#[derive(clap::Args)]
pub(super) struct Selection {
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

/// A pod with its decision.
pub(super) struct Case {
    pub(super) pod: Pod,
    /// The pod was decided as Istio's injector would make it.
    pub(super) assumed: bool,
    /// What led to the decision.
    pub(super) decided: Decided,
    /// How it is redirected, or why it is not.
    pub(super) plan: Result<Plan, Explanation>,
    /// What this node knows about the pod, if it runs here.
    pub(super) on_node: Option<OnNode>,
}

/// What a node knows about one of its pods.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OnNode {
    /// What its ADD made.
    Made(String),
    /// Its last ADD made nothing, as the agent remembers it.
    Decided(String),
    /// Its ADD made nothing, or there was none.
    Nothing,
}

impl Case {
    /// Refused before anything was decided.
    fn refused(pod: &Pod, refusal: Explanation) -> Self {
        let decided = Decided {
            decision: Decision::Refuse(refusal.clone()),
            inputs: vec![],
            warnings: vec![],
            tolerated: None,
        };
        Self {
            pod: pod.clone(),
            assumed: false,
            decided,
            plan: Err(refusal),
            on_node: None,
        }
    }
}

impl Case {
    /// Adds the pod's record; warns if the pod should be redirected and has none.
    fn look_at_node(&mut self, records: &[Record]) {
        let uid = &self.pod.metadata.uid;
        let record = records
            .iter()
            .find(|record| record.uid == *uid && record.done);
        let Some(record) = record else {
            self.on_node = Some(OnNode::Nothing);
            let networks = self.pod.annotation(annotation::NETWORKS);
            if self.plan.is_ok() && networks.is_none_or(str::is_empty) {
                self.names_none("the pod names no attachment");
            } else if self.plan.is_ok() && self.pod.has_run() {
                let cause = "the pod runs, and no record on this node says that it was redirected";
                let remedy = "see whether an attachment that it names is of type mesh-optin, then delete the pod";
                let warning = Reason::Bypassing.because(cause).remedy(remedy);
                self.decided.warnings.push(warning);
            }
            return;
        };
        self.on_node = Some(OnNode::Made(format!(
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

    fn names_none(&mut self, why: &str) {
        let networks = annotation::NETWORKS;
        let cause = format!("{why} in {networks}: the plugin is not called for it");
        let remedy = "name one in the workload's template, and delete the pod";
        let warning = Reason::Bypassing.because(cause).remedy(remedy);
        self.decided.warnings.push(warning);
    }
}

impl Selection {
    /// Reads the files and decides on each pod.
    pub(super) fn cases(&self) -> Result<Vec<Case>, Failure> {
        if self.files.is_empty() {
            self.root.enter()?;
            return Ok(vec![self.live_case()?]);
        }
        let mut all = Objects::default();
        for file in &self.files {
            all.read(file)?;
        }
        for pod in &mut all.pods {
            all.runtime_classes.iter().for_each(|c| c.complete(pod));
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
            return Err(Failure::usage("the files hold no such pod"));
        }
        pods.into_iter().map(|pod| self.case(pod, &all)).collect()
    }

    /// A pod as the plugin would see it now, except for its attachment's settings, which are not known here.
    fn live_case(&self) -> Result<Case, Failure> {
        let (Some(name), Some(namespace)) = (&self.pod, &self.namespace) else {
            return Err(Failure::usage(
                "give manifests with --file or, on a node, a pod and its --namespace",
            ));
        };
        let failed = |e: Explanation| Failure::failed(e.to_string());
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
            ..
        } = look_up(&node, &asked, None, Deadline::after(node.deadline)).map_err(failed)?;
        if let Some(conversation) = conversation {
            conversation.report(None);
        }
        let governing = match governing {
            Some(governing) => governing,
            None => Governing::among(profiles(node.default_profile), &found, None),
        };
        let (pod, namespace) = (&found.pod, &found.namespace);
        let silent = Attachment::default();
        let mut case = self.decided_as(pod, namespace, governing.profile.as_ref(), &silent, false);
        attachments::ensure_listable().map_err(failed)?;
        let records = attachments::all();
        match attachments::unreadable() {
            0 => case.look_at_node(&records),
            unreadable => {
                return Err(Failure::failed(format!(
                    "what was made for the pod cannot be told: {unreadable} of the records in {} cannot be read",
                    paths::ATTACHMENTS
                )));
            }
        }
        if case.on_node == Some(OnNode::Nothing)
            && let Some(outcome) = decided(&found.pod.metadata.uid, Deadline::after(AT_ONCE))
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

    fn case(&self, pod: &Pod, all: &Objects) -> Result<Case, Failure> {
        let name = &pod.metadata.namespace;
        let namespace = all.namespaces.iter().find(|n| n.metadata.name == *name);
        let namespace = namespace.ok_or_else(|| {
            Failure::usage(format!(
                "the files hold no Namespace {name}, which pod {} is in",
                pod.metadata.name
            ))
        })?;
        let named = match all.named_by(pod) {
            Ok(named) => named,
            Err(refusal) => return Ok(Case::refused(pod, refusal)),
        };
        // Multus calls the plugin for each attachment in turn
        let of_each = |attachment| self.decided(pod, namespace, attachment, all);
        let mut case = match named.ours.as_slice() {
            [] => of_each(&Attachment::default()),
            ours if ours.len() > MOST_ATTACHMENTS => {
                let cause = format!(
                    "the pod names {} attachments of type mesh-optin",
                    ours.len()
                );
                Case::refused(pod, Reason::TooManyAttachments.because(cause))
            }
            ours => together(pod, ours.iter().map(|a| (a.speaks(), of_each(a))).collect()),
        };
        // the injector may add the attachment to a pod that it has not seen yet
        if named.ours.is_empty() && !named.unknown && !case.assumed && case.plan.is_ok() {
            case.names_none("the pod names no attachment of type mesh-optin");
        }
        Ok(case)
    }

    /// What an ADD for this attachment would do.
    fn decided(
        &self,
        pod: &Pod,
        namespace: &Namespace,
        attachment: &Attachment,
        all: &Objects,
    ) -> Case {
        let named = attachment.profile.as_deref();
        let governing = governing(&all.profiles, namespace, pod, named);
        let profile = governing.as_ref().map(|(profile, _)| *profile);
        let assumed = profile
            .ok()
            .and_then(|profile| assume_injected(pod, namespace, profile));
        let mut case = match &assumed {
            Some(assumed) => self.decided_as(assumed, namespace, profile, attachment, true),
            None => self.decided_as(pod, namespace, profile, attachment, false),
        };
        case.pod = pod.clone();
        case.decided
            .warnings
            .extend(governing.ok().and_then(|(_, warning)| warning));
        case
    }

    fn decided_as(
        &self,
        pod: &Pod,
        namespace: &Namespace,
        profile: Result<&Profile, &Explanation>,
        attachment: &Attachment,
        assumed: bool,
    ) -> Case {
        let mut decided = explain(pod, namespace, profile, attachment);
        let plan = match &decided.decision {
            Decision::Redirect(intent) => Plan::new(intent, &self.network(pod)),
            Decision::Skip(e) | Decision::Refuse(e) => Err(e.clone()),
        };
        match (&decided.decision, &plan) {
            (Decision::Redirect(_), Err(refusal)) => {
                decided.decision = Decision::Refuse(refusal.clone())
            }
            (_, Ok(plan)) => decided.warnings.extend(plan.warnings.clone()),
            (Decision::Skip(_) | Decision::Refuse(_), Err(_)) => {}
        }
        Case {
            pod: pod.clone(),
            assumed,
            decided,
            plan,
            on_node: None,
        }
    }

    /// The family, for formats that hold only one.
    pub(super) fn one_family(&self, pod: &Pod) -> Result<Family, Failure> {
        let network = self.network(pod);
        match (network.ipv4, network.ipv6) {
            (true, false) => Ok(Family::Ipv4),
            (false, true) => Ok(Family::Ipv6),
            _ => Err(Failure::usage(
                "--format iptables takes one family: give --family v4 or --family v6",
            )),
        }
    }

    /// The families that eth0 will have, as far as is known.
    fn network(&self, pod: &Pod) -> PodNetwork {
        let ips: Vec<IpNet> = pod
            .status
            .pod_ips
            .iter()
            .filter_map(|ip| Some(ip.ip.parse::<std::net::IpAddr>().ok()?.into()))
            .collect();
        let (ipv4, ipv6) = match (self.family.as_slice(), ips.as_slice()) {
            ([], []) => (true, false),
            ([], ips) => (
                ips.iter().any(|ip| matches!(ip, IpNet::V4(_))),
                ips.iter().any(|ip| matches!(ip, IpNet::V6(_))),
            ),
            (families, _) => (families.contains(&Ip::V4), families.contains(&Ip::V6)),
        };
        PodNetwork::of_eth0(ipv4, ipv6)
    }
}

/// Combines the decisions for all of a pod's attachments: one refusal stops the pod; of several that redirect, the one with settings of its
/// own counts, and two of these must be equal.
fn together(pod: &Pod, mut cases: Vec<(bool, Case)>) -> Case {
    let redirects = |case: &Case| matches!(case.decided.decision, Decision::Redirect(_));
    let refusal = cases
        .iter()
        .position(|(_, case)| matches!(case.decided.decision, Decision::Refuse(_)));
    let mut speaking = (0..cases.len()).filter(|at| cases[*at].0 && redirects(&cases[*at].1));
    let speaks = speaking.next();
    let differs = |at: usize| {
        speaks.is_some_and(|first| cases[at].1.decided.decision != cases[first].1.decided.decision)
    };
    if refusal.is_none() && speaking.any(differs) {
        return Case::refused(
            pod,
            Reason::ConflictingAttachment
                .because("two attachments that the pod names have different settings"),
        );
    }
    let first = cases.iter().position(|(_, case)| redirects(case));
    let at = refusal.or(speaks).or(first).unwrap_or(0);
    cases.swap_remove(at).1
}

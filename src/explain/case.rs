//! What is decided on a pod, for each attachment that it names.

use super::{Objects, network};
use crate::{
    mesh::{
        Attachment, Decided, Decision, MOST_ATTACHMENTS, Namespace, Pod, annotation,
        assume_injected, explain, governing,
    },
    plan::{Plan, PodNetwork},
    profile::Profile,
    reason::{Explanation, Reason},
};

/// A pod with its decision.
pub(crate) struct Case {
    pub(crate) pod: Pod,
    /// The pod was decided as Istio's injector would make it.
    pub(crate) assumed: bool,
    /// What led to the decision.
    pub(crate) decided: Decided,
    /// How it is redirected, or why it is not.
    pub(crate) plan: Result<Plan, Explanation>,
    /// What the node knows about the pod, if there is one.
    pub(crate) on_node: Option<OnNode>,
    /// On a node: when the pod and its namespace were read, and who has read them.
    pub(crate) read: Option<String>,
}

/// What a node knows about one of its pods.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OnNode {
    /// What its ADD made.
    Made(String),
    /// Its last ADD made nothing, as the agent remembers it.
    Decided(String),
    /// Its ADD made nothing, or there was none.
    Nothing,
    /// What its agent reports of it to the cluster.
    #[cfg_attr(
        not(feature = "kubectl"),
        expect(dead_code, reason = "of the program for laptops")
    )]
    Reported(String),
}

/// The pod's namespace is not among the objects.
#[derive(Debug)]
pub(crate) struct NoNamespace;

impl Case {
    /// Refused before anything was decided.
    fn refused(pod: &Pod, refusal: Explanation) -> Self {
        let decided = Decided {
            decision: Decision::Refuse(refusal.clone()),
            inputs: vec![],
            warnings: vec![],
            tolerated: None,
            missing_sidecar: None,
            stays_out: false,
        };
        Self {
            pod: pod.clone(),
            assumed: false,
            decided,
            plan: Err(refusal),
            on_node: None,
            read: None,
        }
    }
}

impl Case {
    /// Decides on a pod by these objects; where the network of eth0 is not given, it is what the pod's status says.
    pub(crate) fn of(
        pod: &Pod,
        all: &Objects,
        of_eth0: Option<PodNetwork>,
    ) -> Result<Self, NoNamespace> {
        let name = &pod.metadata.namespace;
        let namespace = all.namespaces.iter().find(|n| n.metadata.name == *name);
        let namespace = namespace.ok_or(NoNamespace)?;
        let network = of_eth0.unwrap_or_else(|| network(pod));
        let named = match all.attachments_of(pod) {
            Ok(named) => named,
            Err(refusal) => return Ok(Self::refused(pod, refusal)),
        };
        // Multus calls the plugin for each attachment in turn
        let of_each = |attachment| Self::decide(pod, namespace, attachment, all, &network);
        let mut case = match named.ours.as_slice() {
            [] => of_each(&Attachment::default()),
            ours if ours.len() > MOST_ATTACHMENTS => {
                let cause = format!(
                    "the pod names {} attachments of type mesh-optin",
                    ours.len()
                );
                Self::refused(pod, Reason::TooManyAttachments.because(cause))
            }
            ours => together(pod, ours.iter().map(|a| (a.speaks(), of_each(a))).collect()),
        };
        // the injector may add the attachment to a pod that it has not seen yet
        if named.is_empty() && !case.assumed && case.plan.is_ok() {
            case.names_none("the pod names no attachment of type mesh-optin");
        }
        Ok(case)
    }

    /// What an ADD for this attachment would do.
    fn decide(
        pod: &Pod,
        namespace: &Namespace,
        attachment: &Attachment,
        all: &Objects,
        network: &PodNetwork,
    ) -> Self {
        let named = attachment.profile.as_deref();
        let governing = governing(&all.profiles, namespace, pod, named);
        let profile = governing.as_ref().map(|(profile, _)| *profile);
        let assumed = profile
            .ok()
            .and_then(|profile| assume_injected(pod, namespace, profile));
        let mut case = match &assumed {
            Some(assumed) => {
                Self::decide_under(assumed, namespace, profile, attachment, network, true)
            }
            None => Self::decide_under(pod, namespace, profile, attachment, network, false),
        };
        case.pod = pod.clone();
        case.decided
            .warnings
            .extend(governing.ok().and_then(|(_, warning)| warning));
        case
    }

    /// What an ADD for this attachment would do under this profile.
    pub(crate) fn decide_under(
        pod: &Pod,
        namespace: &Namespace,
        profile: Result<&Profile, &Explanation>,
        attachment: &Attachment,
        network: &PodNetwork,
        assumed: bool,
    ) -> Self {
        let mut decided = explain(pod, namespace, profile, attachment);
        let plan = match &decided.decision {
            Decision::Redirect(intent) => Plan::new(intent, network),
            Decision::Skip(e) | Decision::Refuse(e) => Err(e.clone()),
        };
        match (&decided.decision, &plan) {
            (Decision::Redirect(_), Err(refusal)) => {
                decided.decision = Decision::Refuse(refusal.clone())
            }
            (_, Ok(plan)) => decided.warnings.extend(plan.warnings.clone()),
            (Decision::Skip(_) | Decision::Refuse(_), Err(_)) => {}
        }
        Self {
            pod: pod.clone(),
            assumed,
            decided,
            plan,
            on_node: None,
            read: None,
        }
    }

    /// Warns that the plugin is not called for the pod.
    pub(crate) fn names_none(&mut self, why: &str) {
        let networks = annotation::NETWORKS;
        let cause = format!("{why} in {networks}: the plugin is not called for it");
        let remedy = "name one in the workload's template, and delete the pod";
        let warning = Reason::Bypassing.because(cause).remedy(remedy);
        self.decided.warnings.push(warning);
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

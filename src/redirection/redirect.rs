use super::tools::tools;
use crate::{
    cni::Attached,
    deadline::Deadline,
    kernel::{Carrier, Interfaces as KernelInterfaces, KernelError, Live, Netns, netns::cookie},
    mesh::{Backend, Intent, Interfaces, Pod, Profile},
    node::attachments::{self, Record},
    plan::{Difference, Form, Plan, PodNetwork, State, summary},
    reason::{Explanation, Reason},
};

/// What is to be redirected, for whom.
pub struct Redirection<'a> {
    /// The network namespace, as the runtime names it.
    pub attached: &'a Attached,
    /// The pod in it.
    pub pod: &'a Pod,
    /// What governs it.
    pub profile: &'a Profile,
    /// What is wanted.
    pub intent: &'a Intent,
    /// When it must be done.
    pub deadline: Deadline,
}

/// What came of it.
pub struct Done {
    /// Redirected or AlreadyRedirected.
    pub reason: Reason,
    /// What someone should know.
    pub warnings: Vec<Explanation>,
}

/// Redirects. A repeated ADD finds everything right and changes nothing; one that was killed is completed; another plan in the
/// namespace is a conflict, and stays.
pub fn redirect(netns: &Netns, wanted: &Redirection<'_>) -> Result<Done, Explanation> {
    netns.run(|| {
        let cookie = cookie()?;
        let interfaces = KernelInterfaces::open(wanted.deadline)?;
        let earlier = earlier(wanted, cookie)?;
        let network = match &earlier {
            // what was there at the first ADD counts: an interface that came later changes nothing
            Some(earlier) => earlier.network.clone(),
            None => interfaces.pod_network(wanted.intent.interfaces == Interfaces::Primary)?,
        };
        let plan = Plan::new(wanted.intent, &network)?;
        let attempt = Attempt { netns, interfaces: &interfaces, wanted, plan: &plan, network, cookie, earlier: earlier.as_ref() };
        let (reason, mut warnings) = attempt.by_backend()?;
        warnings.extend(plan.warnings);
        Ok(Done { reason, warnings })
    })
}

/// The record of an earlier ADD in this namespace that wanted the same; a conflict where one that was done wanted something else.
fn earlier(wanted: &Redirection<'_>, cookie: u64) -> Result<Option<Record>, Explanation> {
    let records = attachments::of_container(&wanted.attached.container_id).into_iter().filter(|r| r.netns_cookie == cookie);
    let (same, other): (Vec<_>, Vec<_>) = records.partition(|r| r.intent == *wanted.intent);
    match other.iter().find(|r| r.done) {
        Some(other) => {
            Err(Reason::ConflictingAttachment.because(format!("the attachment for {} in this pod has other settings", other.ifname)))
        }
        // of two, what is done is known better
        None => Ok(same.into_iter().max_by_key(|r| r.done)),
    }
}

struct Attempt<'a> {
    netns: &'a Netns,
    interfaces: &'a KernelInterfaces,
    wanted: &'a Redirection<'a>,
    plan: &'a Plan,
    network: PodNetwork,
    cookie: u64,
    earlier: Option<&'a Record>,
}

/// Why rules could not be made.
enum Failed {
    /// The kernel's word, which may lead to the other backend.
    Kernel(KernelError),
    Said(Explanation),
}

impl From<KernelError> for Failed {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error)
    }
}

impl From<Explanation> for Failed {
    fn from(explanation: Explanation) -> Self {
        Self::Said(explanation)
    }
}

impl From<Failed> for Explanation {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Kernel(error) => error.into(),
            Failed::Said(explanation) => explanation,
        }
    }
}

impl Attempt<'_> {
    /// By what an earlier ADD used, or the profile says; `Auto` falls back to iptables where the kernel has no nf_tables for this plan.
    fn by_backend(&self) -> Result<(Reason, Vec<Explanation>), Explanation> {
        let backend = match self.earlier.map(|e| e.backend) {
            Some(Form::Nftables) => Backend::Nftables,
            Some(Form::Iptables) => Backend::Iptables,
            None => self.wanted.intent.backend,
        };
        match backend {
            Backend::Nftables => Ok(self.by(&Carrier::Nftables)?),
            Backend::Iptables => Ok(self.by(&Carrier::Iptables(&tools(self.wanted.deadline)?))?),
            Backend::Auto => match self.by(&Carrier::Nftables) {
                Err(Failed::Kernel(lacking @ KernelError::NoNfTables { .. })) => self.fall_back(&lacking),
                other => Ok(other?),
            },
        }
    }

    fn fall_back(&self, lacking: &KernelError) -> Result<(Reason, Vec<Explanation>), Explanation> {
        let by_iptables = || -> Result<_, Explanation> { Ok(self.by(&Carrier::Iptables(&tools(self.wanted.deadline)?))?) };
        match by_iptables() {
            Ok((reason, mut warnings)) => {
                let cause = format!("iptables is used: nf_tables cannot be ({lacking})");
                warnings.push(Explanation { remedy: None, ..Reason::KernelUnsupported.because(cause) });
                Ok((reason, warnings))
            }
            Err(explanation) => {
                Err(Explanation { cause: format!("{}; nf_tables cannot be used either: {lacking}", explanation.cause), ..explanation })
            }
        }
    }

    /// Read, compare, apply, read back. Where somebody else was faster, another ADD perhaps, looks again.
    fn by(&self, carrier: &Carrier<'_>) -> Result<(Reason, Vec<Explanation>), Failed> {
        const ATTEMPTS: u32 = 5;
        let mut live = Live::open(carrier, self.interfaces, self.netns, self.wanted.deadline)?;
        let record = self.record(live.form());
        for _ in 0..ATTEMPTS {
            let mut found = live.read(self.plan)?;
            let already = self.plan.compare_rules(&found.rules).is_empty();
            if self.plan.compare(&found).is_empty() {
                self.note_done(&record)?;
            } else {
                self.no_conflict(&found)?;
                match noted(&record, || live.apply(self.plan, &found)) {
                    Err(Failed::Kernel(KernelError::Overtaken)) => continue,
                    other => other?,
                }
                found = live.read(self.plan)?;
            }
            if let Some(what) = summary(&self.plan.compare(&found)) {
                return Err(Reason::KernelRefused.because(format!("the redirection reads back differently: {what}")).into());
            }
            let in_front = summary(&live.in_front(self.plan, &found)?).map(|what| Reason::Preempted.because(what));
            return Ok((if already { Reason::AlreadyRedirected } else { Reason::Redirected }, in_front.into_iter().collect()));
        }
        Err(KernelError::Overtaken.into())
    }

    /// Rules that are there already are the planned ones, or what an ADD that was killed left of them.
    fn no_conflict(&self, found: &State) -> Result<(), Explanation> {
        let killed = self.earlier.is_some_and(|e| !e.done && e.backend == Form::Iptables);
        if killed || found.rules.are_untouched() {
            return Ok(());
        }
        match summary::<Difference>(&self.plan.compare_rules(&found.rules)) {
            None => Ok(()),
            Some(what) => {
                let cause = format!("this network namespace already has other rules of ours or Istio's: {what}");
                Err(Reason::ConflictingAttachment.because(cause))
            }
        }
    }

    fn note_done(&self, record: &Record) -> Result<(), Explanation> {
        let done = Record { done: true, ..record.clone() };
        if self.earlier == Some(&done) { Ok(()) } else { done.write() }
    }

    fn record(&self, backend: Form) -> Record {
        let (attached, metadata) = (self.wanted.attached, &self.wanted.pod.metadata);
        Record {
            container_id: attached.container_id.clone(),
            ifname: attached.ifname.clone(),
            netns: attached.netns.clone(),
            netns_cookie: self.cookie,
            namespace: metadata.namespace.clone(),
            pod: metadata.name.clone(),
            uid: metadata.uid.clone(),
            intent: self.wanted.intent.clone(),
            network: self.network.clone(),
            backend,
            profile: self.wanted.profile.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            done: false,
        }
    }
}

/// Does `work` with its record written before and marked done after. Where it fails, what was on record before is again; with iptables
/// a new one stays as not done, for what could not be undone.
fn noted(record: &Record, work: impl FnOnce() -> Result<(), KernelError>) -> Result<(), Failed> {
    let before = attachments::get(&record.container_id, &record.ifname).ok().flatten();
    let before = before.filter(|r| r.netns_cookie == record.netns_cookie);
    record.write()?;
    let worked = work();
    match (&worked, before) {
        (Ok(()), _) => Record { done: true, ..record.clone() }.write()?,
        // if this fails too, what is on record says that it was not done
        (Err(_), Some(before)) => drop(before.write()),
        (Err(_), None) if record.backend == Form::Iptables => {}
        (Err(_), None) => attachments::remove(&record.container_id, &record.ifname),
    }
    Ok(worked?)
}

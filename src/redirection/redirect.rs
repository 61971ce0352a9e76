use std::{fs::File, time::Duration};

use nix::fcntl::Flock;

use super::tools::tools;
use crate::{
    cni::Attached,
    deadline::Deadline,
    kernel::{Carrier, Interfaces as KernelInterfaces, KernelError, Live, Netns, netns::cookie},
    mesh::{Backend, Intent, Interfaces, Pod, Profile},
    node::{
        attachments::{self, Record},
        paths, state,
    },
    plan::{Form, Plan, PodNetwork, State, summary},
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
        let earlier = earlier(wanted, cookie)?.filter(counts);
        let network = match &earlier {
            // what was there at the first ADD counts: an interface that came later changes nothing
            Some(earlier) => earlier.network.clone(),
            None => interfaces.pod_network(wanted.intent.interfaces == Interfaces::Primary)?,
        };
        let plan = Plan::new(wanted.intent, &network)?;
        let attempt = Attempt { netns, interfaces: &interfaces, wanted, plan: &plan, network, cookie };
        let (reason, mut warnings) = attempt.by_backend(earlier.as_ref())?;
        warnings.extend(plan.warnings);
        Ok(Done { reason, warnings })
    })
}

/// Whether a record says something of what the namespace has: with nftables an ADD that was killed left nothing, or was done.
fn counts(record: &Record) -> bool {
    record.done || record.backend != Form::Nftables
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
    fn by_backend(&self, earlier: Option<&Record>) -> Result<(Reason, Vec<Explanation>), Explanation> {
        let backend = match earlier.map(|e| e.backend) {
            Some(Form::Nftables) => Backend::Nftables,
            Some(Form::Iptables | Form::IptablesNft | Form::IptablesLegacy) => Backend::Iptables,
            None => self.wanted.intent.backend,
        };
        match backend {
            Backend::Nftables => Ok(self.by(&Carrier::Nftables, earlier)?),
            Backend::Iptables => self.by_iptables(),
            Backend::Auto => match self.by(&Carrier::Nftables, earlier) {
                Err(Failed::Kernel(lacking @ KernelError::NoNfTables { .. })) => self.fall_back(&lacking),
                other => Ok(other?),
            },
        }
    }

    /// One ADD at a time: iptables cannot be held to what was read.
    fn by_iptables(&self) -> Result<(Reason, Vec<Explanation>), Explanation> {
        let tools = tools(self.plan.families, self.wanted.deadline)?;
        let _locked = self.lock()?;
        // what an ADD that had the lock has done
        let earlier = earlier(self.wanted, self.cookie)?.filter(counts);
        let on_record = earlier.as_ref().map(|e| e.backend).filter(|form| *form != Form::Nftables);
        Ok(self.by(&Carrier::Iptables(&tools, on_record), earlier.as_ref())?)
    }

    fn lock(&self) -> Result<Flock<File>, Explanation> {
        const LOCKS: u64 = 64; // so many files, never removed
        let name = (self.cookie % LOCKS).to_string();
        loop {
            if let Some(lock) = state::try_lock(paths::LOCKS, &name)? {
                return Ok(lock);
            }
            if self.wanted.deadline.left().is_zero() {
                return Err(Reason::DeadlineExceeded.because("another ADD is still making rules of iptables"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn fall_back(&self, lacking: &KernelError) -> Result<(Reason, Vec<Explanation>), Explanation> {
        match self.by_iptables() {
            Ok((reason, mut warnings)) => {
                let cause = format!("iptables is used: nf_tables cannot be ({lacking})");
                warnings.push(Explanation { remedy: None, ..Reason::KernelUnsupported.because(cause) });
                Ok((reason, warnings))
            }
            Err(explanation) => {
                let cause = format!("{}; nf_tables cannot be used either: {lacking}", explanation.cause);
                Err(Explanation { cause, ..explanation })
            }
        }
    }

    /// Read, compare, apply, read back. Where somebody else was faster, another ADD perhaps, looks again.
    fn by(&self, carrier: &Carrier<'_>, earlier: Option<&Record>) -> Result<(Reason, Vec<Explanation>), Failed> {
        const ATTEMPTS: u32 = 5;
        let mut live = Live::open(carrier, self.interfaces, self.netns, self.wanted.deadline)?;
        let record = self.record(live.form());
        for _ in 0..ATTEMPTS {
            let mut found = live.read(self.plan)?;
            let already = self.plan.compare_rules(&found.rules).is_empty();
            if self.plan.compare(&found).is_empty() {
                let done = Record { done: true, ..record.clone() };
                if earlier != Some(&done) {
                    done.write()?;
                }
            } else {
                self.no_conflict(&found, earlier)?;
                match noted(&record, || self.made(&mut live, &found)) {
                    Err(Failed::Kernel(KernelError::Overtaken)) => continue,
                    made => found = made?,
                }
            }
            let reason = if already { Reason::AlreadyRedirected } else { Reason::Redirected };
            return Ok((reason, self.in_front(&mut live, &found).into_iter().collect()));
        }
        Err(KernelError::Overtaken.into())
    }

    /// Applies, and believes the kernel's own word that it is right.
    fn made(&self, live: &mut Live<'_>, found: &State) -> Result<State, Failed> {
        live.apply(self.plan, found)?;
        let found = live.read(self.plan)?;
        match summary(&self.plan.compare(&found)) {
            None => Ok(found),
            Some(what) => Err(Reason::KernelRefused.because(format!("the redirection reads back differently: {what}")).into()),
        }
    }

    /// A warning where somebody else's rules come before ours, or cannot be told: ours are in place.
    fn in_front(&self, live: &mut Live<'_>, found: &State) -> Option<Explanation> {
        match live.in_front(self.plan, found) {
            Ok(in_front) => summary(&in_front).map(|what| Reason::Preempted.because(what)),
            Err(error) => Some(Reason::Preempted.because(format!("what comes before the redirection cannot be told: {error}"))),
        }
    }

    /// Rules that are there already are the planned ones, or what an ADD that was killed left of them.
    fn no_conflict(&self, found: &State, earlier: Option<&Record>) -> Result<(), Explanation> {
        let conflict = |what: &str| {
            let cause = format!("this network namespace already has other rules of ours or Istio's: {what}");
            Err(Reason::ConflictingAttachment.because(cause))
        };
        let extra = self.plan.compare_routing(&found.routing).into_iter().find(|d| d.expected.is_none());
        if let Some(extra) = extra {
            return conflict(&extra.to_string());
        }
        let killed = earlier.is_some_and(|e| !e.done);
        if killed || found.rules.are_untouched() {
            return Ok(());
        }
        summary(&self.plan.compare_rules(&found.rules)).map_or(Ok(()), |what| conflict(&what))
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
fn noted<T>(record: &Record, work: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    let before = attachments::get(&record.container_id, &record.ifname).ok().flatten();
    let before = before.filter(|r| r.netns_cookie == record.netns_cookie);
    record.write()?;
    let worked = work();
    match (&worked, before) {
        (Ok(_), _) => Record { done: true, ..record.clone() }.write()?,
        // if this fails too, what is on record says that it was not done
        (Err(_), Some(before)) => drop(before.write()),
        (Err(_), None) if record.backend != Form::Nftables => {}
        (Err(_), None) => attachments::remove(&record.container_id, &record.ifname),
    }
    worked
}

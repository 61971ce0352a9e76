use super::{
    lock::lock,
    tools::tools,
    wanted::{Redirection, earlier},
};
use crate::{
    kernel::{Carrier, Interfaces, KernelError, Live, Netns},
    mesh::Backend,
    node::attachments::{self, Begun, Record},
    plan::{FORMAT, Form, Plan, PodNetwork, State, summary},
    reason::{Explanation, Reason},
};

/// To make one plan true in the namespace that this thread is in.
pub(super) struct Attempt<'a> {
    pub(super) netns: &'a Netns,
    pub(super) interfaces: &'a Interfaces,
    pub(super) wanted: &'a Redirection<'a>,
    pub(super) plan: &'a Plan,
    pub(super) network: PodNetwork,
    pub(super) cookie: u64,
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
    pub(super) fn by_backend(
        &self,
        earlier: Option<&Record>,
    ) -> Result<(Reason, Vec<Explanation>), Explanation> {
        let backend = match earlier.map(|e| e.backend) {
            Some(Form::Nftables) => Backend::Nftables,
            Some(Form::Iptables | Form::IptablesNft | Form::IptablesLegacy) => Backend::Iptables,
            None => self.wanted.intent.backend,
        };
        match backend {
            Backend::Nftables => Ok(self.by(&Carrier::Nftables, earlier)?),
            Backend::Iptables => self.by_iptables(),
            Backend::Auto => match self.by(&Carrier::Nftables, earlier) {
                Err(Failed::Kernel(lacking @ KernelError::NoNfTables { .. })) => {
                    self.fall_back(&lacking)
                }
                other => Ok(other?),
            },
        }
    }

    /// One ADD at a time: iptables cannot be held to what was read.
    fn by_iptables(&self) -> Result<(Reason, Vec<Explanation>), Explanation> {
        let tools = tools(self.plan.families, self.wanted.deadline)?;
        let _locked = lock(self.cookie, self.wanted.deadline)?;
        // what an ADD that had the lock has done
        let earlier = earlier(self.wanted, self.cookie)?;
        let on_record = earlier
            .as_ref()
            .map(|e| e.backend)
            .filter(|form| *form != Form::Nftables);
        Ok(self.by(&Carrier::Iptables(&tools, on_record), earlier.as_ref())?)
    }

    fn fall_back(&self, lacking: &KernelError) -> Result<(Reason, Vec<Explanation>), Explanation> {
        match self.by_iptables() {
            Ok((reason, mut warnings)) => {
                let cause = format!("iptables is used: nf_tables cannot be ({lacking})");
                warnings.push(Explanation {
                    remedy: None,
                    ..Reason::KernelUnsupported.because(cause)
                });
                Ok((reason, warnings))
            }
            Err(explanation) => {
                let cause = format!(
                    "{}; nf_tables cannot be used either: {lacking}",
                    explanation.cause
                );
                Err(Explanation {
                    cause,
                    ..explanation
                })
            }
        }
    }

    /// Read, compare, apply, read back. Where somebody else was faster, another ADD perhaps, looks again.
    fn by(
        &self,
        carrier: &Carrier<'_>,
        earlier: Option<&Record>,
    ) -> Result<(Reason, Vec<Explanation>), Failed> {
        const ATTEMPTS: u32 = 5;
        let mut live = Live::open(carrier, self.interfaces, self.netns, self.wanted.deadline)?;
        let record = self.record(live.form());
        for _ in 0..ATTEMPTS {
            let mut found = live.read(self.plan)?;
            let already = self.plan.compare_rules(&found.rules).is_empty();
            if self.plan.compare(&found).is_empty() {
                let done = Record {
                    done: true,
                    ..record.clone()
                };
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
            let reason = if already {
                Reason::AlreadyRedirected
            } else {
                Reason::Redirected
            };
            return Ok((
                reason,
                self.in_front(&mut live, &found).into_iter().collect(),
            ));
        }
        Err(KernelError::Overtaken.into())
    }

    /// Applies, and believes the kernel's own word that it is right.
    fn made(&self, live: &mut Live<'_>, found: &State) -> Result<State, Failed> {
        live.apply(self.plan, found)?;
        let found = live.read(self.plan)?;
        match summary(&self.plan.compare(&found)) {
            None => Ok(found),
            Some(what) => Err(Reason::KernelRefused
                .because(format!("the redirection reads back differently: {what}"))
                .into()),
        }
    }

    /// A warning where somebody else's rules come before ours, or cannot be told: ours are in place.
    fn in_front(&self, live: &mut Live<'_>, found: &State) -> Option<Explanation> {
        match live.in_front(self.plan, found) {
            Ok(in_front) => summary(&in_front).map(|what| Reason::Preempted.because(what)),
            Err(error) => Some(Reason::Preempted.because(format!(
                "what comes before the redirection cannot be told: {error}"
            ))),
        }
    }

    /// Rules that are there already are the planned ones, or what an ADD that was killed left of them.
    fn no_conflict(&self, found: &State, earlier: Option<&Record>) -> Result<(), Explanation> {
        let conflict = |what: &str| {
            let cause = format!(
                "this network namespace already has other rules of ours or Istio's: {what}"
            );
            Err(Reason::ConflictingAttachment.because(cause))
        };
        let extra = self
            .plan
            .compare_routing(&found.routing)
            .into_iter()
            .find(|d| d.expected.is_none());
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
            format: FORMAT,
            done: false,
        }
    }
}

/// Does `work` with its record written before and marked done after. Where it fails, what was on record before is again; with iptables
/// a new one stays as not done, for what could not be undone.
fn noted<T>(record: &Record, work: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    let before = attachments::get(&record.container_id, &record.ifname)
        .ok()
        .flatten();
    let before = before.filter(|r| r.netns_cookie == record.netns_cookie);
    let begun = Begun::write(record)?;
    let worked = work();
    match (&worked, before) {
        (Ok(_), _) => begun.done()?,
        // if this fails too, what is on record says that it was not done
        (Err(_), Some(before)) => drop(before.write()),
        (Err(_), None) if record.backend != Form::Nftables => {}
        (Err(_), None) => attachments::remove(&record.container_id, &record.ifname),
    }
    worked
}

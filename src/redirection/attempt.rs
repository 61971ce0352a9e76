use super::{
    tools::tools,
    wanted::{Course, Redirection},
};
use jiff::Timestamp;

use crate::{
    kernel::{Carrier, KernelError, Live, Netns, Network},
    mesh::{Backend, PreemptedPolicy},
    node::attachments::{self, Begun, Record},
    plan::{FORMAT, Form, Plan, PodNetwork, State, may_be_right, summary},
    reason::{Explanation, Reason},
};

/// To make one plan true in the namespace that this thread is in.
pub(super) struct Attempt<'a> {
    pub(super) netns: &'a Netns,
    pub(super) interfaces: &'a Network,
    pub(super) wanted: &'a Redirection<'a>,
    pub(super) plan: &'a Plan,
    pub(super) network: PodNetwork,
    pub(super) cookie: u64,
    /// What is on record of this sandbox.
    pub(super) earlier: Option<&'a Record>,
    /// What is done about that.
    pub(super) course: Course,
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
    pub(super) fn by_backend(&self) -> Result<(Reason, Vec<Explanation>), Explanation> {
        let backend = match self.earlier.map(|e| e.backend) {
            Some(Form::Nftables) => Backend::Nftables,
            Some(Form::Iptables | Form::IptablesNft | Form::IptablesLegacy) => Backend::Iptables,
            None => self.plan.intent.backend,
        };
        match backend {
            Backend::Nftables => Ok(self.by(&Carrier::Nftables)?),
            Backend::Iptables => self.by_iptables(),
            Backend::Auto => match self.by(&Carrier::Nftables) {
                Err(Failed::Kernel(lacking @ KernelError::NoNfTables { .. })) => {
                    self.fall_back(&lacking)
                }
                other => Ok(other?),
            },
        }
    }

    fn by_iptables(&self) -> Result<(Reason, Vec<Explanation>), Explanation> {
        let tools = tools(self.plan.families, self.wanted.deadline)?;
        let on_record = self
            .earlier
            .map(|e| e.backend)
            .filter(|form| *form != Form::Nftables);
        Ok(self.by(&Carrier::Iptables(&tools, on_record))?)
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

    /// Read, compare, apply, read back. Where something else was faster, an agent that repairs perhaps, looks again.
    fn by(&self, carrier: &Carrier<'_>) -> Result<(Reason, Vec<Explanation>), Failed> {
        const ATTEMPTS: u32 = 5;
        let mut live = Live::open(carrier, self.interfaces, self.netns, self.wanted.deadline)?;
        let record = self.record(live.form());
        for _ in 0..ATTEMPTS {
            let mut found = live.read(self.plan)?;
            // with iptables what comes before ours is known when ours are there
            let known = (live.form() == Form::Nftables).then(|| self.in_front(&mut live, &found));
            let mut warnings = known.transpose()?.unwrap_or_default();
            let differences = self.plan.compare(&found);
            let already = self.plan.compare_rules(&found.rules).is_empty();
            let is_outdated = !differences.is_empty() && self.is_outdated(&found);
            if differences.is_empty() || is_outdated {
                self.keep(&record)?;
                warnings.extend(summary(&differences).map(|what| Reason::Outdated.because(what)));
            } else {
                self.no_conflict(&found)?;
                match self.noted(&record, || self.made(&mut live, &found)) {
                    Err(Failed::Kernel(KernelError::Overtaken)) => continue,
                    made => found = made?,
                }
            }
            if live.form() != Form::Nftables {
                warnings.extend(self.in_front(&mut live, &found)?);
            }
            let reason = if already || is_outdated {
                Reason::AlreadyRedirected
            } else {
                Reason::Redirected
            };
            return Ok((reason, warnings));
        }
        Err(KernelError::Overtaken.into())
    }

    /// Notes that what is there is right, as what made it.
    fn keep(&self, record: &Record) -> Result<(), Explanation> {
        let mut done = Record {
            done: true,
            ..record.clone()
        };
        if let Some(earlier) = self.earlier.filter(|_| self.course == Course::Keep) {
            (done.format, done.version) = (earlier.format, earlier.version.clone());
        }
        if self.earlier == Some(&done) {
            Ok(())
        } else {
            done.write()
        }
    }

    /// Whether what stays was made by a version of this program that plans otherwise: it stays as it is.
    fn is_outdated(&self, found: &State) -> bool {
        self.course == Course::Keep
            && self.earlier.is_some_and(|e| may_be_right(e.format))
            && !self.plan.redirects_nothing(found)
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

    /// A warning where foreign rules come before ours, or cannot be told. Where they decide nothing of the pod runs yet, and it must not:
    /// unless the profile says so, or it has run before.
    fn in_front(
        &self,
        live: &mut Live<'_>,
        found: &State,
    ) -> Result<Vec<Explanation>, Explanation> {
        const ATTEMPTS: usize = 3;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match live.in_front(self.plan, found) {
                Err(error) => last = Some(error),
                Ok(in_front) => {
                    let deciding: Vec<_> = in_front.iter().filter(|p| p.stops).collect();
                    let refuses =
                        self.wanted.profile.spec.redirect.preempted == PreemptedPolicy::Refuse;
                    if refuses
                        && !self.wanted.pod.has_run()
                        && let Some(what) = summary(&deciding)
                    {
                        return Err(Reason::Preempted.because(what));
                    }
                    return Ok(summary(&in_front)
                        .map(|what| Reason::Preempted.because(what))
                        .into_iter()
                        .collect());
                }
            }
        }
        let cause =
            last.map(|error| format!("what comes before the redirection cannot be told: {error}"));
        Ok(cause
            .map(|cause| Reason::Preempted.because(cause))
            .into_iter()
            .collect())
    }

    /// Rules that are there already are the planned ones, or what an ADD that was killed left of them.
    fn no_conflict(&self, found: &State) -> Result<(), Explanation> {
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
        let killed = self.earlier.is_some_and(|e| !e.done);
        if killed || self.course == Course::Replace || found.rules.are_untouched() {
            return Ok(());
        }
        summary(&self.plan.compare_rules(&found.rules)).map_or(Ok(()), |what| conflict(&what))
    }

    fn record(&self, backend: Form) -> Record {
        let (attached, metadata) = (self.wanted.attached, &self.wanted.pod.metadata);
        let mut record = Record {
            container_id: attached.container_id.clone(),
            ifname: attached.ifname.clone(),
            interfaces: Vec::new(),
            made: Timestamp::now(),
            speaks: self.wanted.speaks,
            netns: attached.netns.clone(),
            netns_cookie: self.cookie,
            namespace: metadata.namespace.clone(),
            pod: metadata.name.clone(),
            uid: metadata.uid.clone(),
            intent: self.plan.intent.clone(),
            network: self.network.clone(),
            backend,
            profile: self.wanted.profile.name.clone(),
            profile_version: self.wanted.profile.resource_version.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            format: FORMAT,
            done: false,
        };
        if let Some(earlier) = self.earlier {
            record.interfaces.clone_from(&earlier.interfaces);
            if self.course == Course::Keep {
                record.ifname.clone_from(&earlier.ifname);
                record.profile.clone_from(&earlier.profile);
                record.profile_version.clone_from(&earlier.profile_version);
                record.speaks =
                    earlier.speaks || (record.speaks && earlier.intent == *self.wanted.intent);
            }
            if self.course != Course::Make {
                record.made = earlier.made;
            }
        }
        if !record.interfaces.contains(&attached.ifname) {
            record.interfaces.push(attached.ifname.clone());
        }
        record
    }

    /// Does `work` with its record written before and marked done after. Where it fails, what was on record before is again; with iptables
    /// a new one stays as not done, for what could not be undone.
    fn noted<T>(
        &self,
        record: &Record,
        work: impl FnOnce() -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let begun = Begun::write(record)?;
        let worked = work();
        match (&worked, self.earlier) {
            (Ok(_), _) => begun.done()?,
            // if this fails too, what is on record says that it was not done
            (Err(_), Some(before)) => drop(before.write()),
            (Err(_), None) if record.backend != Form::Nftables => {}
            (Err(_), None) => attachments::remove(&record.container_id),
        }
        worked
    }
}

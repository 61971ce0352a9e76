//! One plan for the namespace that this thread is in: which backend carries it out, and what is put on record.

use jiff::Timestamp;

use super::{
    converge::{Converging, Failed},
    tools::tools,
    wanted::{Done, Handling, Redirection},
};
use crate::{
    kernel::{Backend, Iptables, KernelError, Live, Netns, Network, Nftables},
    node::attachments::{OnDisk, Record},
    plan::{FORMAT, Form, Plan, PodNetwork},
    profile::{BackendPolicy, PreemptedPolicy, VERSION},
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
    pub(super) handling: Handling,
}

impl Attempt<'_> {
    /// By what an earlier ADD used, or the profile says; `Auto` falls back to iptables where the kernel has no nf_tables for this plan.
    pub(super) fn apply(&self) -> Result<Done, Explanation> {
        let wanted = match self.earlier.map(|e| e.backend.iptables()) {
            Some(None) => BackendPolicy::Nftables,
            Some(Some(_)) => BackendPolicy::Iptables,
            None => self.plan.intent.backend,
        };
        match wanted {
            BackendPolicy::Nftables => Ok(self.apply_with_nftables()?),
            BackendPolicy::Iptables => self.apply_with_iptables(),
            BackendPolicy::Auto => match self.apply_with_nftables() {
                Err(Failed::Kernel(lacking @ KernelError::NoNfTables { .. })) => {
                    self.fall_back(&lacking)
                }
                other => Ok(other?),
            },
        }
    }

    fn apply_with_nftables(&self) -> Result<Done, Failed> {
        self.apply_with(Nftables::open(self.wanted.deadline)?)
    }

    fn apply_with_iptables(&self) -> Result<Done, Explanation> {
        let tools = tools(self.plan.families, self.wanted.deadline)?;
        let on_record = self.earlier.and_then(|e| e.backend.iptables());
        let iptables = Iptables::open(&tools, on_record, self.netns, self.wanted.deadline)?;
        Ok(self.apply_with(iptables)?)
    }

    fn fall_back(&self, lacking: &KernelError) -> Result<Done, Explanation> {
        match self.apply_with_iptables() {
            Ok(mut done) => {
                let cause = format!("iptables is used: nf_tables cannot be ({lacking})");
                done.warnings.push(Explanation {
                    remedy: None,
                    ..Reason::KernelUnsupported.because(cause)
                });
                Ok(done)
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

    fn apply_with<B: Backend>(&self, backend: B) -> Result<Done, Failed> {
        let refuses = self.wanted.profile.spec.redirect.preempted == PreemptedPolicy::Refuse;
        Converging {
            record: self.record(backend.form()),
            live: Live::new(backend, self.interfaces, self.plan),
            earlier: self.earlier,
            handling: self.handling,
            refuses_preempted: refuses && !self.wanted.pod.has_run(),
            store: &OnDisk,
        }
        .converge()
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
            version: VERSION.into(),
            format: FORMAT,
            done: false,
        };
        if let Some(earlier) = self.earlier {
            record.interfaces.clone_from(&earlier.interfaces);
            if self.handling == Handling::Keep {
                record.ifname.clone_from(&earlier.ifname);
                record.profile.clone_from(&earlier.profile);
                record.profile_version.clone_from(&earlier.profile_version);
                record.speaks =
                    earlier.speaks || (record.speaks && earlier.intent == *self.wanted.intent);
            }
            if self.handling != Handling::Make {
                record.made = earlier.made;
            }
        }
        if !record.interfaces.contains(&attached.ifname) {
            record.interfaces.push(attached.ifname.clone());
        }
        record
    }
}

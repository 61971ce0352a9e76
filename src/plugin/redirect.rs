//! Read, compare, apply, read back: how a plan becomes the state of a network namespace.

use crate::{
    cni::Attached,
    deadline::Deadline,
    kernel::{Interfaces as KernelInterfaces, KernelError, Netns, Nftables, netns::cookie},
    mesh::{Intent, Interfaces, Pod, Profile},
    node::attachments::{self, Record},
    plan::{Difference, Plan, PodNetwork, compare, nft::Table, summary},
    reason::{Explanation, Reason},
};

/// What is to be redirected, for whom.
pub(super) struct Redirection<'a> {
    pub(super) attached: &'a Attached,
    pub(super) pod: &'a Pod,
    pub(super) profile: &'a Profile,
    pub(super) intent: &'a Intent,
    pub(super) deadline: Deadline,
}

/// What came of it.
pub(super) struct Done {
    /// Redirected or AlreadyRedirected.
    pub(super) reason: Reason,
    pub(super) warnings: Vec<Explanation>,
}

/// Redirects. A repeated ADD finds everything right and changes nothing; another plan in the namespace is a conflict, and stays.
pub(super) fn redirect(netns: &Netns, wanted: &Redirection<'_>) -> Result<Done, Explanation> {
    netns.run(|| {
        let cookie = cookie()?;
        let interfaces = KernelInterfaces::open(wanted.deadline)?;
        let mut network = interfaces.pod_network(wanted.intent.interfaces == Interfaces::Primary)?;
        let mut plan = Plan::new(wanted.intent, &network)?;
        let mut nftables = Nftables::open(wanted.deadline)?;
        let found = nftables.read()?;
        if let Some(found) = &found {
            // what was there at the first ADD counts: an interface that came later changes nothing
            if let Some(record) = earlier(wanted, cookie)? {
                network = record.network;
                plan = Plan::new(wanted.intent, &network)?;
            }
            no_conflict(&compare(&plan.nftables(), Some(found)))?;
        }
        let record = wanted.record(cookie, network);
        let add_addresses = || interfaces.add_to_lo(&plan.addresses_on_lo(), record.network.ipv6);
        let reason = if found.is_some() {
            add_addresses()?;
            Record { done: true, ..record }.write()?;
            Reason::AlreadyRedirected
        } else {
            noted(&record, || {
                add_addresses()?;
                apply(&mut nftables, &plan.nftables())
            })?;
            Reason::Redirected
        };
        Ok(Done { reason, warnings: plan.warnings })
    })
}

/// Does `work` with its record written before and marked done after. Where it fails, what was on record before is again.
fn noted(record: &Record, work: impl FnOnce() -> Result<(), Explanation>) -> Result<(), Explanation> {
    let before = attachments::get(&record.container_id, &record.ifname).ok().flatten();
    let before = before.filter(|r| r.netns_cookie == record.netns_cookie);
    record.write()?;
    let worked = work();
    match (&worked, before) {
        (Ok(()), _) => Record { done: true, ..record.clone() }.write()?,
        // if this fails too, what is on record says that it was not done
        (Err(_), Some(before)) => drop(before.write()),
        (Err(_), None) => attachments::remove(&record.container_id, &record.ifname),
    }
    worked
}

/// The record of an earlier ADD in this namespace that wanted the same; a conflict where one that was done wanted something else.
fn earlier(wanted: &Redirection<'_>, cookie: u64) -> Result<Option<Record>, Explanation> {
    let records = attachments::of_container(&wanted.attached.container_id).into_iter().filter(|r| r.netns_cookie == cookie);
    let (same, other): (Vec<_>, Vec<_>) = records.partition(|r| r.intent == *wanted.intent);
    match other.iter().find(|r| r.done) {
        Some(other) => {
            Err(Reason::ConflictingAttachment.because(format!("the attachment for {} in this pod has other settings", other.ifname)))
        }
        None => Ok(same.into_iter().next()),
    }
}

/// Makes the table and believes the kernel's own word that it is right. Where somebody else was faster, another ADD perhaps, looks again.
fn apply(nftables: &mut Nftables, table: &Table) -> Result<(), Explanation> {
    const ATTEMPTS: u32 = 5;
    for _ in 0..ATTEMPTS {
        match nftables.create(table) {
            Ok(()) => {
                let changed = summary(&compare(table, nftables.read()?.as_ref()));
                let refused = |what| Reason::KernelRefused.because(format!("the rules read back differently: {what}"));
                return changed.map_or(Ok(()), |what| Err(refused(what)));
            }
            Err(KernelError::Overtaken) => {
                if let Some(found) = nftables.read()? {
                    return no_conflict(&compare(table, Some(&found)));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(KernelError::Overtaken.into())
}

fn no_conflict(differences: &[Difference]) -> Result<(), Explanation> {
    match summary(differences) {
        None => Ok(()),
        Some(what) => {
            Err(Reason::ConflictingAttachment.because(format!("this network namespace already has another table inet mesh-optin: {what}")))
        }
    }
}

impl Redirection<'_> {
    fn record(&self, netns_cookie: u64, network: PodNetwork) -> Record {
        let (attached, metadata) = (self.attached, &self.pod.metadata);
        Record {
            container_id: attached.container_id.clone(),
            ifname: attached.ifname.clone(),
            netns: attached.netns.clone(),
            netns_cookie,
            namespace: metadata.namespace.clone(),
            pod: metadata.name.clone(),
            uid: metadata.uid.clone(),
            intent: self.intent.clone(),
            network,
            backend: "nftables".into(),
            profile: self.profile.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            done: false,
        }
    }
}

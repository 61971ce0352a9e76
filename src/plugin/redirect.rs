//! Read, compare, apply, read back: how a plan becomes the state of a network namespace.

use crate::{
    cni::Attached,
    deadline::Deadline,
    kernel::{Interfaces as KernelInterfaces, KernelError, Netns, Nftables, netns::cookie},
    mesh::{Intent, Interfaces, Pod, Profile},
    node::attachments::{self, Record},
    plan::{Difference, Plan, compare, nft::Table},
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
        let earlier: Vec<_> =
            attachments::of_container(&wanted.attached.container_id).into_iter().filter(|r| r.netns_cookie == cookie).collect();
        if let Some(other) = earlier.iter().find(|r| r.intent != *wanted.intent) {
            return Err(
                Reason::ConflictingAttachment.because(format!("the attachment for {} in this pod has other settings", other.ifname))
            );
        }
        let interfaces = KernelInterfaces::open(wanted.deadline)?;
        // what was there at the first ADD counts: an interface that came later changes nothing
        let network = match earlier.first() {
            Some(record) => record.network.clone(),
            None => interfaces.pod_network(wanted.intent.interfaces == Interfaces::Primary)?,
        };
        let plan = Plan::new(wanted.intent, &network)?;
        let (table, mut nftables) = (plan.nftables(), Nftables::open(wanted.deadline)?);
        let found = nftables.read()?;
        if let Some(found) = &found {
            no_conflict(&compare(&table, Some(found)))?;
        }
        let mut record = wanted.record(cookie, plan.intent.clone(), network);
        record.done = found.is_some();
        write(&record)?;
        let lo: Vec<_> = plan.addresses().into_iter().map(|(_lo, address)| address).collect();
        interfaces.add_to_lo(&lo, record.network.ipv6)?;
        if found.is_some() {
            return Ok(Done { reason: Reason::AlreadyRedirected, warnings: plan.warnings });
        }
        apply(&mut nftables, &table)?;
        record.done = true;
        write(&record)?;
        Ok(Done { reason: Reason::Redirected, warnings: plan.warnings })
    })
}

/// Makes the table and believes the kernel's own word that it is right.
fn apply(nftables: &mut Nftables, table: &Table) -> Result<(), Explanation> {
    match nftables.create(table) {
        Ok(()) => {
            let differences = compare(table, nftables.read()?.as_ref());
            let changed = differences.first().map(|d| Reason::KernelRefused.because(format!("the rules read back differently: {d}")));
            changed.map_or(Ok(()), Err)
        }
        // another ADD was faster
        Err(KernelError::Exists) => no_conflict(&compare(table, nftables.read()?.as_ref())),
        Err(error) => Err(error.into()),
    }
}

fn no_conflict(differences: &[Difference]) -> Result<(), Explanation> {
    match differences {
        [] => Ok(()),
        [first, ..] => Err(Reason::ConflictingAttachment.because(format!(
            "this network namespace already has a table inet mesh-optin with {} differences: {first}",
            differences.len()
        ))),
    }
}

fn write(record: &Record) -> Result<(), Explanation> {
    record.write().map_err(|e| {
        Reason::Internal.because(format!("writing the attachment's record below /run/mesh-optin: {e}")).remedy("check the node's disk")
    })
}

impl Redirection<'_> {
    fn record(&self, netns_cookie: u64, intent: Intent, network: crate::plan::PodNetwork) -> Record {
        let (attached, metadata) = (self.attached, &self.pod.metadata);
        Record {
            container_id: attached.container_id.clone(),
            ifname: attached.ifname.clone(),
            netns: attached.netns.clone(),
            netns_cookie,
            namespace: metadata.namespace.clone(),
            pod: metadata.name.clone(),
            uid: metadata.uid.clone(),
            intent,
            network,
            backend: "nftables".into(),
            profile: self.profile.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            done: false,
        }
    }
}

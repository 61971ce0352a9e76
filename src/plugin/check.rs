use super::Failure;
use crate::{
    cni::{Attached, Environment},
    deadline::Deadline,
    kernel::{Interfaces, Netns, Nftables, netns::cookie},
    node::attachments,
    plan::{Plan, compare, summary},
    reason::{Explanation, Reason},
};

/// CHECK: whether the redirection is still what the attachment's record says. A pod that was skipped has none, nor has one whose record
/// was lost: nothing says what it should be.
pub(super) fn check(environment: &Environment, deadline: Deadline) -> Result<String, Failure> {
    let attached = Attached::parse(environment)?;
    let record = attachments::get(&attached.container_id, &attached.ifname)?;
    let Some(record) = record.filter(|r| r.done) else { return Ok(String::new()) };
    let plan = Plan::new(&record.intent, &record.network)?;
    let differences = Netns::open(&attached.netns)?.run(|| -> Result<Vec<String>, Explanation> {
        if cookie()? != record.netns_cookie {
            return Err(Reason::NetnsInvalid.because("CNI_NETNS is not the network namespace of this attachment's ADD"));
        }
        let rules = compare(&plan.nftables(), Nftables::open(deadline)?.read()?.as_ref());
        let missing = Interfaces::open(deadline)?.missing_on_lo(&plan.addresses_on_lo())?;
        // where eth0 has no IPv6 address, IPv6 may be switched off
        let missing = missing.into_iter().filter(|_| record.network.ipv6).map(|address| format!("address {address} on lo is missing"));
        Ok(rules.iter().map(ToString::to_string).chain(missing).collect())
    })?;
    summary(&differences).map_or_else(|| Ok(String::new()), |drift| Err(Reason::Drifted.because(drift).into()))
}

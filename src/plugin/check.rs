use super::Failure;
use crate::{
    cni::{Attached, Environment},
    deadline::Deadline,
    kernel::{Netns, Nftables, netns::cookie},
    node::{NodeConfig, attachments},
    plan::{Plan, compare},
    reason::Reason,
};

/// CHECK: whether the redirection is still what the attachment's record says. A pod that was skipped has none.
pub(super) fn check(environment: &Environment) -> Result<String, Failure> {
    let attached = Attached::parse(environment)?;
    let Some(record) = attachments::get(&attached.container_id, &attached.ifname) else { return Ok(String::new()) };
    let deadline = Deadline::after(NodeConfig::load()?.deadline);
    let table = Plan::new(&record.intent, &record.network)?.nftables();
    let found = Netns::open(&attached.netns)?.run(|| {
        if cookie()? != record.netns_cookie {
            return Err(Reason::NetnsInvalid.because("CNI_NETNS is not the network namespace of this attachment's ADD"));
        }
        Ok(Nftables::open(deadline)?.read()?)
    })?;
    let differences = compare(&table, found.as_ref());
    match differences.first() {
        None => Ok(String::new()),
        Some(first) => Err(Reason::Drifted.because(format!("{} differences: {first}", differences.len())).into()),
    }
}

use super::tools::tools;
use crate::{
    deadline::Deadline,
    kernel::{Carrier, Interfaces, Live, Netns, netns::cookie},
    node::attachments::Record,
    plan::{Difference, Form, Plan, Preempting},
    reason::{Explanation, Reason},
};

/// What a look at a live redirection gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// How it is not what it should be.
    pub differences: Vec<Difference>,
    /// What of somebody else comes before it.
    pub in_front: Vec<Preempting>,
}

/// Compares a network namespace with what the record of its ADD says. Changes nothing.
pub fn verify(record: &Record, netns: &Netns, deadline: Deadline) -> Result<Findings, Explanation> {
    let plan = Plan::new(&record.intent, &record.network)?;
    let tools = match record.backend {
        Form::Nftables => None,
        Form::Iptables => Some(tools(deadline)?),
    };
    netns.run(|| {
        if cookie()? != record.netns_cookie {
            return Err(Reason::NetnsInvalid.because("it is not the network namespace of this attachment's ADD"));
        }
        let interfaces = Interfaces::open(deadline)?;
        let carrier = tools.as_ref().map_or(Carrier::Nftables, Carrier::Iptables);
        let mut live = Live::open(&carrier, &interfaces, netns, deadline)?;
        let found = live.read(&plan)?;
        Ok(Findings { differences: plan.compare(&found), in_front: live.in_front(&plan, &found)? })
    })
}

use super::{lock::lock, tools::tools};
use crate::{
    deadline::Deadline,
    kernel::{Carrier, Live, Netns, Network, netns::cookie},
    node::attachments::Record,
    plan::{Difference, Form, Plan, Preempting, State, may_be_right},
    reason::{Explanation, Reason},
};

/// What a look at a live redirection gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// How it is not what it should be.
    pub differences: Vec<Difference>,
    /// What of somebody else comes before it.
    pub in_front: Vec<Preempting>,
    /// A version of this program made it that plans otherwise, and it is not gutted: what differs may be what that version meant.
    pub outdated: bool,
}

impl Findings {
    /// What is wrong in a word; `None` where it is as it should be. What of somebody else lets packets go on to ours is not wrong.
    pub fn wrong(&self) -> Option<Reason> {
        if self.differences.is_empty() {
            return self
                .in_front
                .iter()
                .any(|p| p.decides)
                .then_some(Reason::Preempted);
        }
        Some(if self.outdated {
            Reason::Outdated
        } else {
            Reason::Drifted
        })
    }
}

/// Compares a network namespace with what the record of its ADD says. Changes nothing.
pub fn verify(record: &Record, netns: &Netns, deadline: Deadline) -> Result<Findings, Explanation> {
    within(record, netns, deadline, |live, plan| {
        let found = live.read(plan)?;
        Ok(findings(record, plan, live, &found))
    })
}

/// Puts right what has changed, and says what is then found: what of somebody else is in front, or beside our rules, stays.
pub fn repair(record: &Record, netns: &Netns, deadline: Deadline) -> Result<Findings, Explanation> {
    let _alone = lock(record.netns_cookie, deadline)?;
    within(record, netns, deadline, |live, plan| {
        let found = live.read(plan)?;
        if !plan.compare(&found).is_empty() {
            live.apply(plan, &found)?;
        }
        let found = live.read(plan)?;
        Ok(findings(record, plan, live, &found))
    })
}

fn findings(record: &Record, plan: &Plan, live: &mut Live<'_>, found: &State) -> Findings {
    // what somebody else has put there must not keep us from what is ours
    let in_front = live.in_front(plan, found).unwrap_or_else(|error| {
        vec![Preempting {
            place: "what comes before our rules".into(),
            rule: error.to_string(),
            decides: true,
            stops: false,
        }]
    });
    let outdated = may_be_right(record.format) && !plan.is_gutted(found);
    Findings {
        differences: plan.compare(found),
        in_front,
        outdated,
    }
}

/// Does `work` in the namespace of a record's attachment.
fn within<T: Send>(
    record: &Record,
    netns: &Netns,
    deadline: Deadline,
    work: impl FnOnce(&mut Live<'_>, &Plan) -> Result<T, Explanation> + Send,
) -> Result<T, Explanation> {
    let plan = Plan::new(&record.intent, &record.network)?;
    let tools = match record.backend {
        Form::Nftables => None,
        Form::Iptables | Form::IptablesNft | Form::IptablesLegacy => {
            Some(tools(plan.families, deadline)?)
        }
    };
    netns.run(|| {
        if cookie()? != record.netns_cookie {
            return Err(Reason::NetnsInvalid
                .because("it is not the network namespace of this attachment's ADD"));
        }
        let network = Network::open(deadline)?;
        let carrier = tools.as_ref().map_or(Carrier::Nftables, |tools| {
            Carrier::Iptables(tools, Some(record.backend))
        });
        work(&mut Live::open(&carrier, &network, netns, deadline)?, &plan)
    })
}

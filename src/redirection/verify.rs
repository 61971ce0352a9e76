use super::{lock::lock, tools::tools};
use crate::{
    deadline::Deadline,
    kernel::{Carrier, Live, Netns, Network, netns::cookie},
    mesh::{IfName, comma},
    node::attachments::{self, Record},
    plan::{Difference, Form, Plan, Preempting, State, may_be_right, summary},
    reason::{Explanation, Reason},
};

/// What a look at a live redirection gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// How it is not what it should be.
    pub differences: Vec<Difference>,
    /// What of somebody else comes before it.
    pub in_front: Vec<Preempting>,
    /// Captured interfaces that were made ports of a bridge after the ADD: what comes in there goes past the rules.
    pub bridged: Vec<IfName>,
    /// A version of this program made it that plans otherwise, and it is not gutted: what differs may be what that version meant.
    pub outdated: bool,
}

impl Findings {
    /// What is wrong, with what was found.
    pub fn told(&self) -> Option<Explanation> {
        let reason = self.wrong()?;
        let what = if reason == Reason::Preempted {
            summary(&self.in_front)
        } else if reason == Reason::Bypassing {
            let names = comma(&self.bridged);
            Some(format!(
                "{names}: now bridge ports, so their packets bypass the redirection"
            ))
        } else {
            summary(&self.differences)
        };
        Some(what.map_or_else(|| reason.into(), |what| reason.because(what)))
    }

    /// What is wrong in a word; `None` where it is as it should be. What of somebody else lets packets go on to ours is not wrong.
    pub fn wrong(&self) -> Option<Reason> {
        if self.differences.is_empty() && !self.bridged.is_empty() {
            return Some(Reason::Bypassing);
        }
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
    // an ADD may have replaced what was read before
    let now = attachments::get(&record.container_id)?;
    let now = now.filter(|now| now.done && now.netns_cookie == record.netns_cookie);
    let record = now.as_ref().unwrap_or(record);
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
    // what is foreign there must not keep us from looking at what is ours
    let cannot_tell = |rule| Preempting {
        place: "what comes before our rules".into(),
        rule,
        decides: true,
        stops: false,
    };
    let in_front = live.in_front(plan, found);
    let mut in_front = in_front.unwrap_or_else(|error| vec![cannot_tell(error.to_string())]);
    // one that came later is a part of what it belongs to, such as a guest's
    let bridged = match live.in_bridges() {
        Ok(ports) => {
            let captured = record
                .network
                .addressed
                .iter()
                .filter(|(name, _)| plan.sees_interface(name.as_str()));
            let now_ports = captured.filter(|(_, index)| ports.contains(index));
            now_ports.map(|(name, _)| name.clone()).collect()
        }
        Err(error) => {
            in_front.push(cannot_tell(error.to_string()));
            Vec::new()
        }
    };
    let outdated = may_be_right(record.format) && !plan.redirects_nothing(found);
    Findings {
        differences: plan.compare(found),
        in_front,
        bridged,
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

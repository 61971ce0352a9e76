use super::{lock::lock, tools::tools};
use crate::{
    deadline::Deadline,
    kernel::{Backend, Bypass, Iptables, Live, Netns, Network, Nftables, netns::cookie},
    mesh::IfName,
    node::attachments::{self, Record},
    plan::{Difference, Plan, Preempting, may_be_right, summary},
    reason::{Explanation, Reason},
};

/// What verifying a live redirection found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// How it differs from the plan.
    pub differences: Vec<Difference>,
    /// Foreign rules that come before it.
    pub in_front: Vec<Preempting>,
    /// Captured interfaces whose packets bypass the rules because of a change after the ADD.
    pub bypassed: Vec<(IfName, Bypass)>,
    /// Whether a newer version made it, and it still redirects something: what differs may be what that version meant.
    pub outdated: bool,
}

impl Findings {
    /// The problem, with what was found.
    pub fn told(&self) -> Option<Explanation> {
        let reason = self.wrong()?;
        let what = if reason == Reason::Preempted {
            summary(&self.in_front)
        } else if reason == Reason::Bypassing {
            let each = self
                .bypassed
                .iter()
                .map(|(name, bypassed)| format!("{name} {bypassed}"));
            let all = each.collect::<Vec<_>>().join(", ");
            Some(format!("{all}: packets there bypass the redirection"))
        } else {
            summary(&self.differences)
        };
        Some(what.map_or_else(|| reason.into(), |what| reason.because(what)))
    }

    /// The problem as a reason; `None` if there is none. Foreign rules that let packets go on to ours are none.
    pub fn wrong(&self) -> Option<Reason> {
        if self.differences.is_empty() && !self.bypassed.is_empty() {
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
    within(record, netns, deadline, Task::Verify)
}

/// Repairs what has changed, and returns what is found then. Foreign rules stay.
pub fn repair(record: &Record, netns: &Netns, deadline: Deadline) -> Result<Findings, Explanation> {
    let _alone = lock(record.netns_cookie, deadline)?;
    // an ADD may have replaced what was read before
    let now = attachments::get(&record.container_id)?;
    let now = now.filter(|now| now.done && now.netns_cookie == record.netns_cookie);
    within(
        now.as_ref().unwrap_or(record),
        netns,
        deadline,
        Task::Repair,
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Verify,
    Repair,
}

/// Does it in the namespace of a record's attachment.
fn within(
    record: &Record,
    netns: &Netns,
    deadline: Deadline,
    task: Task,
) -> Result<Findings, Explanation> {
    let plan = Plan::new(&record.intent, &record.network)?;
    let iptables = match record.backend.iptables() {
        None => None,
        Some(variant) => Some((tools(plan.families, deadline)?, variant)),
    };
    netns.run(|| {
        if cookie()? != record.netns_cookie {
            return Err(Reason::NetnsInvalid
                .because("it is not the network namespace of this attachment's ADD"));
        }
        let network = Network::open(deadline)?;
        match &iptables {
            None => {
                let nftables = Nftables::open(deadline)?;
                findings(record, &plan, Live::new(nftables, &network, &plan), task)
            }
            Some((tools, variant)) => {
                let iptables = Iptables::open(tools, Some(*variant), netns, deadline)?;
                findings(record, &plan, Live::new(iptables, &network, &plan), task)
            }
        }
    })
}

fn findings<B: Backend>(
    record: &Record,
    plan: &Plan,
    mut live: Live<'_, B>,
    task: Task,
) -> Result<Findings, Explanation> {
    let mut found = live.read()?;
    if task == Task::Repair {
        if !found.differences().is_empty() {
            live.apply(&found)?;
        }
        found = live.read()?;
    }
    // what is foreign there must not keep us from looking at what is ours
    let cannot_tell = |rule| Preempting {
        place: "what comes before our rules".into(),
        rule,
        decides: true,
        stops: false,
    };
    let in_front = live.preempting(&found);
    let mut in_front = in_front.unwrap_or_else(|error| vec![cannot_tell(error.to_string())]);
    // an interface that came later is a part of what it belongs to, such as a guest's
    let addressed = record.network.addressed.iter();
    let captured: Vec<_> = addressed
        .filter(|(name, _)| plan.sees_interface(name.as_str()))
        .collect();
    let indexes: Vec<u32> = captured.iter().map(|(_, index)| **index).collect();
    let bypassed = live.bypassed(&indexes).unwrap_or_else(|error| {
        in_front.push(cannot_tell(error.to_string()));
        Vec::new()
    });
    let name_of = |index| captured.iter().find(|(_, of)| **of == index);
    let bypassed = bypassed
        .into_iter()
        .filter_map(|(index, bypassed)| Some((name_of(index)?.0.clone(), bypassed)))
        .collect();
    Ok(Findings {
        outdated: may_be_right(record.format) && !live.redirects_nothing(&found),
        differences: found.into_differences(),
        in_front,
        bypassed,
    })
}

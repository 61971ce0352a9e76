use super::{lock::lock, tools::tools};
use crate::{
    deadline::Deadline,
    kernel::{Backend, Bypass, Iptables, Live, Netns, Network, Nftables, netns::cookie},
    node::attachments::{self, Record},
    plan::{Difference, Plan, Preempting, may_be_right, summary},
    profile::IfName,
    reason::{Explanation, Reason},
    words::words,
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

words! {
    /// What has become of a redirection.
    pub enum Verdict("verdict") {
        /// It is as it should be. Foreign rules that let packets go on to ours do not count.
        Consistent = "consistent",
        /// It differs, and a newer version made it.
        Outdated = "outdated",
        /// It differs.
        Drifted = "drifted",
        /// It is as it should be, but a foreign rule may decide before it.
        Preempted = "preempted",
        /// It is as it should be, but packets pass it by.
        Bypassing = "bypassing",
    }
}

impl Verdict {
    /// The problem as a reason; `None` if there is none.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Consistent => None,
            Self::Outdated => Some(Reason::Outdated),
            Self::Drifted => Some(Reason::Drifted),
            Self::Preempted => Some(Reason::Preempted),
            Self::Bypassing => Some(Reason::Bypassing),
        }
    }
}

impl Findings {
    /// What they amount to: the worst that was found.
    pub fn verdict(&self) -> Verdict {
        if !self.differences.is_empty() && self.outdated {
            Verdict::Outdated
        } else if !self.differences.is_empty() {
            Verdict::Drifted
        } else if !self.bypassed.is_empty() {
            Verdict::Bypassing
        } else if self.in_front.iter().any(|p| p.decides) {
            Verdict::Preempted
        } else {
            Verdict::Consistent
        }
    }

    /// The problem, with what was found; `None` if there is none.
    pub fn problem(&self) -> Option<Explanation> {
        let what = match self.verdict() {
            Verdict::Consistent => None,
            Verdict::Outdated | Verdict::Drifted => summary(&self.differences),
            Verdict::Preempted => summary(&self.in_front),
            Verdict::Bypassing => {
                let each = self.bypassed.iter();
                let each: Vec<_> = each.map(|(name, how)| format!("{name} {how}")).collect();
                let all = each.join(", ");
                Some(format!("{all}: packets there bypass the redirection"))
            }
        };
        let reason = self.verdict().reason()?;
        Some(what.map_or_else(|| reason.into(), |what| reason.because(what)))
    }
}

/// Compares a network namespace with what the record of its ADD says. Changes nothing.
pub fn verify(record: &Record, netns: &Netns, deadline: Deadline) -> Result<Findings, Explanation> {
    run_in_netns(record, netns, deadline, Task::Verify)
}

/// Repairs what has changed, and returns what is found then. Foreign rules stay.
pub fn repair(record: &Record, netns: &Netns, deadline: Deadline) -> Result<Findings, Explanation> {
    let _alone = lock(record.netns_cookie, deadline)?;
    // an ADD may have replaced what was read before
    let now = attachments::get(&record.container_id)?;
    let now = now.filter(|now| now.done && now.netns_cookie == record.netns_cookie);
    run_in_netns(
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
fn run_in_netns(
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
    let bypassed = live.find_bypasses(&indexes).unwrap_or_else(|error| {
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

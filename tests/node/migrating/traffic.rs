//! Pods that talk as long as they live, and what redirects each.

use mesh_optin::kernel::Netns;
use serde_json::Value;

use crate::{
    lands_at_the_sidecar,
    support::{lab::inside, run, stack::Stack, stack_pod::Pod},
};

const AT_SIDECAR: &str = "15001 203.0.113.7:80 ";

/// What redirects a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Rules of istio-cni or istio-init.
    Istio,
    Us,
    Both,
}

/// Pods all of whose connections land at their sidecars, as long as they live.
pub(super) struct Talking<'a> {
    s: &'a Stack,
    living: Vec<(Pod, By)>,
    ended: usize,
    connections: usize,
    /// Those that the sidecar does not let through, each of which failed.
    blocked: usize,
    refused: u64,
}

// === impl Talking ===

impl<'a> Talking<'a> {
    pub(super) fn new(s: &'a Stack) -> Self {
        Self {
            s,
            living: Vec::new(),
            ended: 0,
            connections: 0,
            blocked: 0,
            refused: 0,
        }
    }

    /// Starts a pod, which this redirects.
    pub(super) fn start(&mut self, pod: Pod, by: By) {
        self.s.create(&pod);
        self.joins(pod, by);
    }

    /// One that was created already.
    pub(super) fn joins(&mut self, pod: Pod, by: By) {
        lands_at_the_sidecar(self.s, &pod);
        assert_eq!(redirected_by(self.s, &pod), by, "{}", pod.name);
        self.refused += refused_adds(self.s, &pod);
        self.living.push((pod, by));
    }

    /// Each of them is redirected as it was, no connection has landed elsewhere, and the agent reports none of them.
    pub(super) fn all_land(&self) {
        for (pod, by) in &self.living {
            lands_at_the_sidecar(self.s, pod);
            self.s.all_landed(pod, AT_SIDECAR);
            assert_eq!(redirected_by(self.s, pod), *by, "{}", pod.name);
            let events = self.s.events(pod);
            let bypasses = events.iter().any(|(reason, _)| reason == "Bypassing");
            assert!(!bypasses, "{}: {events:#?}", pod.name);
        }
    }

    /// Deletes these, which succeeds at the first attempt.
    pub(super) fn end(&mut self, names: &[&str]) {
        self.all_land();
        let (end, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.living)
            .into_iter()
            .partition(|(pod, _)| names.contains(&pod.name.as_str()));
        self.living = stay;
        assert_eq!(end.len(), names.len(), "{names:?}");
        let pods: Vec<_> = end.into_iter().map(|(pod, _)| pod).collect();
        self.ended += pods.len();
        let landed = pods.iter().map(|pod| self.s.all_landed(pod, AT_SIDECAR));
        self.connections += landed.sum::<usize>();
        let blocked = pods.iter().map(|pod| self.s.all_blocked(pod));
        self.blocked += blocked.sum::<usize>();
        self.s.delete_at_first_attempt(&pods);
    }

    /// What became of all of them, when none is left.
    pub(super) fn note(&self, way: &str) {
        assert!(self.living.is_empty(), "{way}: pods are left");
        self.s.note(format!(
            "{way}: {} pods, {} connections, none landed elsewhere, and {} more that failed as they must; {} ADDs were refused and tried again, none was lost",
            self.ended, self.connections, self.blocked, self.refused
        ));
    }
}

pub(super) fn redirected_by(s: &Stack, pod: &Pod) -> By {
    match (iptables_rule(s, pod), s.records(pod).is_empty()) {
        (None, false) => By::Us,
        (Some(_), true) => By::Istio,
        (Some(_), false) => By::Both,
        (None, true) => panic!("nothing redirects {}", pod.name),
    }
}

/// What OpenShift's iptables-alerter asks of each pod: the first rule that iptables-save or ip6tables-save list in its network namespace. If
/// there is one, it creates the Event IPTablesUsageObserved.
pub(super) fn iptables_rule(s: &Stack, pod: &Pod) -> Option<String> {
    let netns = Netns::open(&s.path(&s.netns(pod))).unwrap();
    let first = |program: &&str| {
        let listed = inside(&netns, || run(program, &[], ""));
        let mut rules = listed.lines().filter(|line| line.starts_with("-A"));
        rules.next().map(str::to_owned)
    };
    ["iptables-save", "ip6tables-save"].iter().find_map(first)
}

/// How many ADDs of a pod were refused before one succeeded.
fn refused_adds(s: &Stack, pod: &Pod) -> u64 {
    let path = format!("/api/v1/namespaces/{}/events", pod.namespace);
    let list = s.cluster.request("GET", &path, &Value::Null).unwrap();
    let of_pod = list["items"].as_array().unwrap().iter().filter(|event| {
        event["involvedObject"]["name"] == pod.name.as_str()
            && event["reason"] == "FailedCreatePodSandBox"
    });
    of_pod
        .map(|event| event["count"].as_u64().unwrap_or(1))
        .sum()
}

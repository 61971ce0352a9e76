use crate::{
    cni::Attached,
    deadline::Deadline,
    mesh::{Intent, Pod},
    node::attachments::Record,
    profile::Profile,
    reason::{Explanation, Reason},
};

/// What is to be redirected, for whom.
pub struct Redirection<'a> {
    /// The network namespace, as the runtime names it.
    pub attached: &'a Attached,
    /// The pod in it.
    pub pod: &'a Pod,
    /// What governs it.
    pub profile: &'a Profile,
    /// What is wanted.
    pub intent: &'a Intent,
    /// The attachment has traffic settings of its own.
    pub speaks: bool,
    /// When it must be done.
    pub deadline: Deadline,
}

/// How an ADD ended.
#[derive(Debug)]
pub struct Done {
    /// Redirected or AlreadyRedirected.
    pub reason: Reason,
    /// Warnings.
    pub warnings: Vec<Explanation>,
}

/// What an ADD does about what an earlier one made in the same sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handling {
    /// Nothing was made before, or it was not finished: it makes what it wants.
    Make,
    /// What was made stays: it is what this one wants, or this one says nothing of its own.
    Keep,
    /// What was made is replaced: it said nothing of its own, and nothing runs by it yet.
    Replace,
}

impl Redirection<'_> {
    /// What to do about the record of this sandbox; a conflict where both have settings of their own, or the pod runs by other ones.
    pub(super) fn choose_handling(
        &self,
        earlier: Option<&Record>,
    ) -> Result<Handling, Explanation> {
        let Some(earlier) = earlier.filter(|record| record.done) else {
            return Ok(Handling::Make);
        };
        if earlier.intent == *self.intent || !self.speaks {
            return Ok(Handling::Keep);
        }
        let conflict = |cause: String| Err(Reason::ConflictingAttachment.because(cause));
        if earlier.speaks {
            return conflict(format!(
                "the attachment for {} in this pod has other settings",
                earlier.ifname
            ));
        }
        if self.pod.has_run_since(earlier.made) {
            return conflict(
                "the attachment has settings of its own, and the pod runs already".into(),
            )
            .map_err(|e: Explanation| e.remedy("delete the pod so that it is recreated"));
        }
        Ok(Handling::Replace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixtures::intent;

    fn record(speaks: bool, done: bool) -> Record {
        let text = include_str!("../../tests/data/compat/0.1.0/record.json");
        Record {
            intent: intent(&[], &[]),
            made: "2026-11-24T08:00:00.7Z".parse().unwrap(),
            speaks,
            done,
            ..serde_json::from_str(text).unwrap()
        }
    }

    fn pod(started: Option<&str>) -> Pod {
        let mut pod = Pod::default();
        let status = started.map(|at| {
            let json =
                format!(r#"{{"containerID":"x","state":{{"running":{{"startedAt":"{at}"}}}}}}"#);
            serde_json::from_str(&json).unwrap()
        });
        pod.status.container_statuses.extend(status);
        pod
    }

    #[test]
    fn a_silent_attachment_defers_and_one_that_speaks_replaces_it_until_the_pod_runs() {
        let (same, other) = (
            intent(&[], &[]),
            intent(
                &[("traffic.sidecar.istio.io/excludeOutboundPorts", "5432")],
                &[],
            ),
        );
        let attached = Attached {
            container_id: "c0ffee".into(),
            ifname: "net2".into(),
            netns: "/run/netns/a".into(),
            pod: None,
        };
        let (before, after) = (Some("2026-11-24T07:59:59Z"), Some("2026-11-24T08:00:00Z"));
        use Handling::{Keep, Make, Replace};
        for (name, earlier, speaks, intent, started, handling) in [
            ("the first", None, false, &same, None, Some(Make)),
            (
                "after one that was killed",
                Some((true, false)),
                true,
                &other,
                None,
                Some(Make),
            ),
            (
                "the same again",
                Some((true, true)),
                true,
                &same,
                after,
                Some(Keep),
            ),
            (
                "silent after one that speaks",
                Some((true, true)),
                false,
                &other,
                after,
                Some(Keep),
            ),
            (
                "silent after silent",
                Some((false, true)),
                false,
                &same,
                None,
                Some(Keep),
            ),
            (
                "silent under a profile that changed",
                Some((false, true)),
                false,
                &other,
                after,
                Some(Keep),
            ),
            (
                "speaks after silent",
                Some((false, true)),
                true,
                &other,
                None,
                Some(Replace),
            ),
            (
                "in the sandbox of a pod that ran before",
                Some((false, true)),
                true,
                &other,
                before,
                Some(Replace),
            ),
            (
                "speaks, and the pod runs",
                Some((false, true)),
                true,
                &other,
                after,
                None,
            ),
            (
                "both speak and differ",
                Some((true, true)),
                true,
                &other,
                None,
                None,
            ),
        ] {
            let earlier = earlier.map(|(speaks, done)| record(speaks, done));
            let wanted = Redirection {
                attached: &attached,
                pod: &pod(started),
                profile: &Profile::built_in(),
                intent,
                speaks,
                deadline: Deadline::after(std::time::Duration::ZERO),
            };
            let found = wanted
                .choose_handling(earlier.as_ref())
                .map_err(|e| e.reason);
            assert_eq!(
                found,
                handling.ok_or(Reason::ConflictingAttachment),
                "{name}"
            );
        }
    }
}

use jiff::SignedDuration;

use super::{Facts, Looked, numbers};
use crate::doctor::cluster::Unseen;

/// The oldest version with what admission policies and tokens bound to nodes need.
const OLDEST: (u64, u64) = (1, 31);
/// More than this, and tokens are valid too early or too late.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn version(facts: &Facts, looked: &mut Looked) {
    match numbers(&facts.version) {
        Some(version) if version < OLDEST => looked.error(
            "API server",
            format!("Kubernetes is {}, which is older than 1.31", facts.version),
            "upgrade Kubernetes to 1.31 or later",
        ),
        Some(_) => {}
        None => looked.not_said("the API server's version has no numbers"),
    }
}

pub(super) fn permissions(facts: &Facts, looked: &mut Looked) {
    for unseen in facts.unseen() {
        if matches!(unseen, Unseen::Right(_)) {
            looked.unseen(unseen.clone());
        }
    }
}

pub(super) fn clock(facts: &Facts, looked: &mut Looked) {
    let Some(date) = facts.date else {
        looked.not_said("the API server's answers have no date");
        return;
    };
    let skew = facts.here.duration_since(date);
    if skew.abs() > SKEW {
        let (by, which) = (
            skew.abs().as_secs(),
            if skew.is_positive() {
                "ahead of"
            } else {
                "behind"
            },
        );
        looked.warning(
            "this machine",
            format!("its clock is {by} s {which} the API server's"),
            "set both by NTP: tokens are refused where clocks differ",
        );
    }
}

//! Writes that were refused: each is tried again after a pause of its own, so that one broken object neither keeps the controller busy nor
//! holds up the others.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::wanted::ObjectKey;

/// Before a refused write is tried again: the first pause, and the longest.
const FIRST: Duration = Duration::from_secs(15);
const LONGEST: Duration = Duration::from_secs(600);

/// Refusals of objects of one kind. `A` is the object as it was seen: where it is another now, the refusal says nothing.
pub(super) struct Refusals<A>(BTreeMap<ObjectKey, Refusal<A>>);

struct Refusal<A> {
    about: A,
    why: String,
    is_conflict: bool,
    pause: Duration,
    until: Instant,
}

impl<A> Refusals<A> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes in a refusal; whether it is news to people.
    pub(super) fn add(
        &mut self,
        key: &ObjectKey,
        about: A,
        is_conflict: bool,
        why: String,
    ) -> bool {
        let before = self.0.get(key);
        let is_news = before.is_none_or(|before| before.why != why);
        let pause = before.map_or(FIRST, |r| (r.pause * 2).min(LONGEST));
        let refusal = Refusal {
            about,
            why,
            is_conflict,
            pause,
            until: Instant::now() + pause,
        };
        self.0.insert(key.clone(), refusal);
        is_news
    }

    /// Whether a write of this object may be tried.
    pub(super) fn may_try(&self, key: &ObjectKey) -> bool {
        let refusal = self.0.get(key);
        refusal.is_none_or(|refusal| refusal.until <= Instant::now())
    }

    /// Whether the last write of this object was refused.
    pub(super) fn has(&self, key: &ObjectKey) -> bool {
        self.0.contains_key(key)
    }

    /// Whether others hold what we would write.
    pub(super) fn is_conflict(&self, key: &ObjectKey) -> bool {
        self.0.get(key).is_some_and(|r| r.is_conflict)
    }

    /// When the next write may be tried that was refused.
    pub(super) fn next_try(&self) -> Option<Duration> {
        let next = self.0.values().map(|refusal| refusal.until).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Why each was refused.
    pub(super) fn reasons(&self) -> BTreeMap<ObjectKey, String> {
        let all = self.0.iter();
        all.map(|(k, r)| (k.clone(), r.why.clone())).collect()
    }

    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.0.remove(key);
    }

    /// Forgets all refusals but those for which `is_kept` holds.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&ObjectKey, &A) -> bool) {
        self.0.retain(|key, refusal| is_kept(key, &refusal.about));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refused_object_has_a_growing_pause_and_the_others_have_none() {
        let (mut refusals, broken) = (Refusals::new(), ObjectKey::new("", "broken"));
        for (why, is_news) in [("no", true), ("no", false), ("never", true)] {
            assert_eq!(refusals.add(&broken, 1, false, why.into()), is_news);
            assert!(!refusals.may_try(&broken) && refusals.may_try(&ObjectKey::new("", "other")));
        }
        let pause = refusals.next_try().unwrap();
        assert!(pause > FIRST * 3 && pause <= FIRST * 4, "{pause:?}");
        refusals.retain(|_, generation| *generation == 2);
        assert!(refusals.may_try(&broken) && refusals.next_try().is_none());
    }

    #[test]
    fn an_object_that_is_refused_again_and_again_is_tried_every_ten_minutes() {
        let (mut refusals, broken) = (Refusals::new(), ObjectKey::new("", "broken"));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            refusals.add(&broken, (), false, "no".into());
            let pause = refusals.next_try().unwrap();
            pauses.push((pause + Duration::from_millis(500)).as_secs());
        }
        assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 600, 600, 600]);
    }
}

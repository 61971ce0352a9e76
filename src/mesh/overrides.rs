//! What tenants say of traffic, and whether the profile lets them.

use super::{
    Attachment, Key, Pod, ProfileSpec, TrafficSettings, pod::annotation::STATUS_PORT,
    traffic::Injected,
};
use crate::reason::{Explanation, Reason};

/// The annotation that sets `key` on this pod, with its text.
fn annotation_of(pod: &Pod, key: Key) -> Option<(&'static str, &str)> {
    key.annotations()
        .iter()
        .find_map(|name| Some((*name, pod.annotation(name)?)))
}

/// Whether the annotation is only what Istio's injector writes on every pod: then the pod has not said it.
fn is_injectors(pod: &Pod, key: Key, text: &str) -> bool {
    match key.injected() {
        Injected::Nothing => false,
        Injected::All => text == "*",
        Injected::StatusPort => {
            let status_port = pod.annotation(STATUS_PORT).unwrap_or("15020");
            text.split(',')
                .map(str::trim)
                .all(|port| port.is_empty() || port == status_port)
        }
    }
}

/// Whether tenants set only what the profile lets them set.
pub(super) fn may_override(
    pod: &Pod,
    attachment: &Attachment,
    profile: &ProfileSpec,
) -> Result<(), Explanation> {
    for key in Key::ALL
        .into_iter()
        .filter(|key| !profile.tenants_may_set(*key))
    {
        if let Some((name, _)) =
            annotation_of(pod, key).filter(|(_, text)| !is_injectors(pod, key, text))
        {
            return Err(Reason::OverrideNotAllowed.because(format!(
                "the profile does not let pods set annotation {name}"
            )));
        }
        if attachment.traffic.get(key).is_some() {
            return Err(Reason::OverrideNotAllowed.because(format!(
                "the profile does not let network attachments set traffic.{key}"
            )));
        }
    }
    Ok(())
}

/// What the pod says. The injector's exclusion of the status port is kept, as exclusions only add up, but not where tenants may not
/// exclude ports: they could name any port the status port. An admin with another one than 15020 has it always excluded.
pub(super) fn said_by_pod(
    pod: &Pod,
    profile: &ProfileSpec,
) -> Result<TrafficSettings, Explanation> {
    let mut settings = TrafficSettings::default();
    for key in Key::ALL {
        let Some((name, text)) = annotation_of(pod, key) else {
            continue;
        };
        let adds_up = key.injected() == Injected::StatusPort && profile.tenants_may_set(key);
        if is_injectors(pod, key, text) && !adds_up {
            continue;
        }
        settings
            .set(key, text)
            .map_err(|e| Reason::InvalidAnnotation.because(format!("annotation {name}: {e}")))?;
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{
        fixtures::{INJECTED, pod, spec},
        layers::resolve,
    };

    #[test]
    fn tenants_are_held_to_what_they_may_override_but_the_injector_is_no_tenant() {
        let strict = spec("{tenants: {mayOverride: [excludeOutboundPorts]}}");
        assert!(may_override(&pod(INJECTED), &Attachment::default(), &strict).is_ok());
        let chosen = [
            ("status.sidecar.istio.io/port", "8080"),
            ("traffic.sidecar.istio.io/excludeInboundPorts", "8080"),
        ];
        let excluded = |spec| {
            resolve(&pod(&chosen), &Attachment::default(), spec, true)
                .unwrap()
                .inbound
                .exclude
        };
        assert_eq!(
            excluded(&strict),
            [15020, 15021, 15090],
            "a tenant cannot name any port the status port"
        );
        assert_eq!(excluded(&spec("{}")), [8080, 15020, 15021, 15090]);
        for (annotations, nad, part) in [
            (
                &[("traffic.sidecar.istio.io/excludeInboundPorts", "22,15020")][..],
                None,
                "annotation traffic.sidecar.istio.io/excludeInboundPorts",
            ),
            (
                &[("istio.io/reroute-virtual-interfaces", "nonsense!")],
                None,
                "istio.io/reroute-virtual-interfaces",
            ),
            (
                &[],
                Some(r#"{"traffic":{"excludeInterfaces":"net1"}}"#),
                "traffic.excludeInterfaces",
            ),
        ] {
            let error = may_override(&pod(annotations), &Attachment::parse(nad).unwrap(), &strict)
                .err()
                .unwrap();
            assert!(
                error.reason == Reason::OverrideNotAllowed && error.cause.contains(part),
                "{error}"
            );
        }
    }
}

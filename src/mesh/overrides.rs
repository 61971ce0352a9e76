//! The traffic settings of tenants, and whether the profile allows them.

use super::{Attachment, Pod, pod::annotation::STATUS_PORT};
use crate::{
    profile::{Injected, Key, ProfileSpec, TrafficSettings, unite},
    reason::{Explanation, Reason},
};

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

/// What tenants set that the profile does not let them set. Their effect counts: what says the same as the profile, or excludes what is
/// excluded anyway, is none. Istio writes mesh-wide values on every pod.
pub(super) fn overrides(
    pod: &Pod,
    attachment: &Attachment,
    profile: &ProfileSpec,
) -> Option<Explanation> {
    let locked = Key::ALL
        .into_iter()
        .filter(|key| !profile.tenants_may_set(*key));
    let mut own = None; // worked out where it counts
    for key in locked {
        let annotation = annotation_of(pod, key).filter(|(_, text)| !is_injectors(pod, key, text));
        if annotation.is_none() && attachment.traffic.get(key).is_none() {
            continue;
        }
        let own = own.get_or_insert_with(|| own_settings(profile));
        if let Some((name, text)) = annotation {
            let mut said = TrafficSettings::default();
            // what cannot be read says something else
            if said.set(key, text).is_err() || said.has_effect(key, own) {
                return Some(Reason::OverrideNotAllowed.because(format!(
                    "the profile does not let pods set annotation {name}"
                )));
            }
        }
        if attachment.traffic.has_effect(key, own) {
            return Some(Reason::OverrideNotAllowed.because(format!(
                "the profile does not let network attachments set traffic.{key}"
            )));
        }
    }
    None
}

/// What the profile says, all in all.
fn own_settings(profile: &ProfileSpec) -> TrafficSettings {
    let redirect = &profile.redirect;
    let mut own = redirect.traffic.clone();
    let excluded = own.exclude_inbound_ports.get_or_insert_default();
    unite(excluded, &redirect.always_excluded_inbound_ports);
    own
}

/// What the pod says of the settings that the profile lets it set. The injector's exclusion of the status port is kept, as exclusions only
/// add up. An admin with another one than 15020 has it always excluded.
pub(super) fn settings_of_pod(
    pod: &Pod,
    profile: &ProfileSpec,
) -> Result<TrafficSettings, Explanation> {
    let mut settings = TrafficSettings::default();
    for key in Key::ALL
        .into_iter()
        .filter(|key| profile.tenants_may_set(*key))
    {
        let Some((name, text)) = annotation_of(pod, key) else {
            continue;
        };
        let adds_up = key.injected() == Injected::StatusPort;
        if is_injectors(pod, key, text) && !adds_up {
            continue;
        }
        settings
            .set(key, text)
            .map_err(|e| Reason::InvalidAnnotation.because(format!("annotation {name}: {e}")))?;
    }
    Ok(settings)
}

/// The same of the attachment.
pub(super) fn settings_of_attachment(
    attachment: &Attachment,
    profile: &ProfileSpec,
) -> TrafficSettings {
    let mut settings = attachment.traffic.clone();
    for key in Key::ALL
        .into_iter()
        .filter(|key| !profile.tenants_may_set(*key))
    {
        settings.unset(key);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{
        fixtures::{INJECTED, pod, spec},
        layers::resolve,
    };

    #[test]
    fn tenants_override_only_what_is_allowed_and_the_injector_is_no_tenant() {
        let strict = spec("{tenants: {mayOverride: [excludeOutboundPorts]}}");
        assert_eq!(
            overrides(&pod(INJECTED), &Attachment::default(), &strict),
            None
        );
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
            let error =
                overrides(&pod(annotations), &Attachment::parse(nad).unwrap(), &strict).unwrap();
            assert!(
                error.reason == Reason::OverrideNotAllowed && error.cause.contains(part),
                "{error}"
            );
        }
    }

    #[test]
    fn a_setting_without_effect_is_no_override() {
        let profile = spec(
            r#"{tenants: {mayOverride: []}, redirect: {alwaysExcludedInboundPorts: [15020, 15021, 15090, 15030],
                traffic: {includeOutboundIPRanges: "10.0.0.0/8,172.16.0.0/12", excludeOutboundIPRanges: 10.9.0.0/16,
                          excludeOutboundPorts: "5432", includeInboundPorts: "80,8080"}}}"#,
        );
        for (key, text, is_override) in [
            (
                "includeOutboundIPRanges",
                "172.16.0.0/12,10.128.0.0/9,10.0.0.0/9",
                false,
            ),
            ("includeOutboundIPRanges", "10.0.0.0/8", true),
            ("includeOutboundIPRanges", "*", false), // the injector's: not set
            ("excludeOutboundIPRanges", "10.9.8.0/24", false),
            ("excludeOutboundIPRanges", "10.8.0.0/15", true),
            ("excludeInboundPorts", "15020,15030", false),
            ("excludeInboundPorts", "15030", false),
            ("excludeInboundPorts", "15031", true),
            ("excludeOutboundPorts", "5432", false),
            ("excludeOutboundPorts", "", false),
            ("excludeOutboundPorts", "22", true),
            ("includeInboundPorts", "8080,80", false),
            ("includeInboundPorts", "80", true),
            ("includeOutboundPorts", "", false),
            ("includeOutboundPorts", "9", true),
        ] {
            let annotation = format!("traffic.sidecar.istio.io/{key}");
            let (by_pod, silent) = (pod(&[(&annotation, text)]), Attachment::default());
            assert_eq!(
                overrides(&by_pod, &silent, &profile).is_some(),
                is_override,
                "{key}: {text:?}"
            );
            let json = format!(r#"{{"traffic":{{"{key}":"{text}"}}}}"#);
            let by_nad = Attachment::parse(Some(&json)).unwrap();
            if text != "*" {
                assert_eq!(
                    overrides(&pod(&[]), &by_nad, &profile).is_some(),
                    is_override,
                    "{json}"
                );
            }
            // whatever they say, the profile's settings are what counts
            let none = resolve(&pod(&[]), &silent, &profile, false).unwrap();
            for (pod, nad) in [(by_pod, silent), (pod(&[]), by_nad)] {
                let resolved = resolve(&pod, &nad, &profile, false).unwrap();
                assert_eq!(
                    format!("{:?}", resolved.outbound),
                    format!("{:?}", none.outbound),
                    "{key}: {text:?}"
                );
                assert_eq!(
                    format!("{:?}", resolved.inbound),
                    format!("{:?}", none.inbound),
                    "{key}: {text:?}"
                );
            }
        }
    }
}

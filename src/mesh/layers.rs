//! Traffic settings in layers: built in < profile < NAD < pod annotation. Exclude lists add up; any other key replaces the lower
//! ones.

use super::{
    Attachment, Inbound, Input, Outbound, Pod, Source,
    merge::Layers,
    overrides::{settings_of_attachment, settings_of_pod},
};
use crate::{
    profile::{IfName, ProfileSpec, Redirect, Resolved, comma, unite},
    reason::{Explanation, Reason},
};

/// The layers, resolved.
pub(super) struct Traffic {
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    pub(super) exclude_interfaces: Vec<IfName>,
    pub(super) reroute_interfaces: Vec<IfName>,
    pub(super) inputs: Vec<Input>,
}

/// Most entries of all lists together: each costs time in every ADD and audit, and kernel memory as long as the pod lives.
const MOST_TOGETHER: usize = 512;

/// Resolves the settings of pod, attachment and profile, those of pod and attachment as far as the profile allows.
pub(super) fn resolve(
    pod: &Pod,
    attachment: &Attachment,
    profile: &ProfileSpec,
    is_explained: bool,
) -> Result<Traffic, Explanation> {
    let (of_pod, of_nad) = (
        settings_of_pod(pod, profile)?,
        settings_of_attachment(attachment, profile),
    );
    let mut layers = Layers {
        said: [
            (Source::Pod, &of_pod),
            (Source::Nad, &of_nad),
            (Source::Profile, &profile.redirect.traffic),
        ],
        inputs: is_explained.then(Vec::new),
    };
    let resolved = Resolved::of(&mut layers)?;
    if resolved.entries() > MOST_TOGETHER {
        return Err(Reason::InvalidAnnotation.because(format!(
            "the traffic settings of pod, NAD and profile have more than {MOST_TOGETHER} entries in all lists together"
        )));
    }
    let Resolved {
        include_inbound_ports,
        mut exclude_inbound_ports,
        include_outbound_ip_ranges,
        exclude_outbound_ip_ranges,
        include_outbound_ports,
        exclude_outbound_ports,
        exclude_interfaces,
        reroute_virtual_interfaces,
    } = resolved;
    let always = &profile.redirect.always_excluded_inbound_ports;
    unite(&mut exclude_inbound_ports, always);
    let is_built_in = *always == Redirect::default().always_excluded_inbound_ports;
    let source = match is_built_in {
        true => Source::BuiltIn,
        false => Source::Profile,
    };
    layers.note("alwaysExcludedInboundPorts", || comma(always), source);
    let inputs = layers.inputs.unwrap_or_default();
    Ok(Traffic {
        inbound: Inbound {
            include: include_inbound_ports,
            exclude: exclude_inbound_ports,
        },
        outbound: Outbound {
            include_ranges: include_outbound_ip_ranges,
            exclude_ranges: exclude_outbound_ip_ranges,
            include_ports: include_outbound_ports,
            exclude_ports: exclude_outbound_ports,
            owner_groups: profile.redirect.outbound_owner_groups.0.clone(),
        },
        exclude_interfaces,
        reroute_interfaces: reroute_virtual_interfaces,
        inputs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::fixtures::{INJECTED, pod, spec};

    #[test]
    fn values_that_the_injector_writes_do_not_override_lower_layers() {
        let nad = Attachment::parse(Some(
            r#"{"traffic":{"includeOutboundIPRanges":"10.0.0.0/8","excludeOutboundPorts":"5432"}}"#,
        ))
        .unwrap();
        let spec = spec(
            r#"{redirect: {traffic: {includeOutboundIPRanges: 172.16.0.0/12, includeInboundPorts: "8080", excludeOutboundPorts: "9"}}}"#,
        );
        let t = resolve(&pod(INJECTED), &nad, &spec, true).unwrap();
        assert_eq!(t.outbound.include_ranges.to_string(), "10.0.0.0/8");
        assert_eq!(t.inbound.include.to_string(), "8080");
        assert_eq!(t.outbound.exclude_ports, [5432, 9]);
        assert_eq!(t.inbound.exclude, [15020, 15021, 15090]);
        let whose: Vec<_> = t
            .inputs
            .iter()
            .map(|i| format!("{}={} ({})", i.name, i.value, i.source))
            .collect();
        assert_eq!(
            whose,
            [
                "includeInboundPorts=8080 (profile)",
                "excludeInboundPorts=15020 (pod)",
                "includeOutboundIPRanges=10.0.0.0/8 (NAD)",
                "excludeOutboundPorts=5432 (NAD)",
                "excludeOutboundPorts=9 (profile)",
                "alwaysExcludedInboundPorts=15020,15021,15090 (built in)"
            ]
        );
    }

    #[test]
    fn the_outbound_default_applies_only_where_no_layer_sets_ports() {
        let excluded = |annotations: &[(&str, &str)]| {
            resolve(&pod(annotations), &Attachment::default(), &spec("{}"), true)
                .unwrap()
                .outbound
                .exclude_ports
        };
        assert_eq!(excluded(&[]), [15020]);
        assert_eq!(
            excluded(&[("traffic.sidecar.istio.io/excludeOutboundPorts", "")]),
            [0u16; 0]
        );
        assert_eq!(
            excluded(&[("traffic.sidecar.istio.io/excludeOutboundPorts", "22")]),
            [22]
        );
    }

    #[test]
    fn all_lists_together_are_bounded() {
        let list = |first: u32, n: u32| {
            (first..first + n)
                .map(|p| p.to_string())
                .collect::<Vec<_>>()
                .join(",")
        };
        let (a, b) = (list(1, 256), list(1000, 256));
        let annotations = [
            ("traffic.sidecar.istio.io/includeOutboundPorts", a.as_str()),
            ("traffic.sidecar.istio.io/excludeOutboundPorts", &b),
        ];
        let resolved = |profile| {
            resolve(
                &pod(&annotations),
                &Attachment::default(),
                &spec(profile),
                true,
            )
        };
        assert!(resolved("{}").is_ok());
        // the profile's entries count as well
        let error = resolved("{redirect: {traffic: {includeOutboundIPRanges: 10.0.0.0/8}}}")
            .err()
            .unwrap();
        assert!(
            error.reason == Reason::InvalidAnnotation && error.cause.contains("512 entries"),
            "{error}"
        );
    }

    #[test]
    fn a_bad_value_is_quoted_and_its_annotation_named() {
        let error = resolve(
            &pod(&[("traffic.sidecar.istio.io/excludeOutboundPorts", "80,*")]),
            &Attachment::default(),
            &spec("{}"),
            true,
        )
        .err()
        .unwrap();
        assert_eq!(
            error.cause,
            r#"annotation traffic.sidecar.istio.io/excludeOutboundPorts: "*" is not a port from 0 to 65535"#
        );
    }

    #[test]
    fn the_deprecated_interface_annotation_counts_only_alone() {
        let both = [
            ("istio.io/reroute-virtual-interfaces", ""),
            ("traffic.sidecar.istio.io/kubevirtInterfaces", "not!valid"),
        ];
        assert!(
            resolve(&pod(&both), &Attachment::default(), &spec("{}"), true)
                .unwrap()
                .reroute_interfaces
                .is_empty()
        );
        assert!(resolve(&pod(&both[1..]), &Attachment::default(), &spec("{}"), true).is_err());
    }
}

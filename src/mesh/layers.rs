//! Traffic settings in layers: built in < profile < NAD < pod annotation. Exclude lists are united, other keys replaced.

use std::fmt;

use serde::Serialize;

use super::{
    Attachment, Inbound, Key, Outbound, Pod, ProfileSpec, Selection, TrafficSettings,
    pod::annotation::STATUS_PORT,
    values::{comma, unite},
};
use crate::{
    mesh::{IfName, Redirect},
    reason::{Explanation, Reason},
};

/// Whose word something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Source {
    #[serde(rename = "pod")]
    Pod,
    #[serde(rename = "namespace")]
    Namespace,
    #[serde(rename = "NAD")]
    Nad,
    #[serde(rename = "profile")]
    Profile,
    #[serde(rename = "built in")]
    BuiltIn,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "pod",
            Self::Namespace => "namespace",
            Self::Nad => "NAD",
            Self::Profile => "profile",
            Self::BuiltIn => "built in",
        })
    }
}

/// Something that led to a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Input {
    pub name: String,
    pub value: String,
    pub source: Source,
}

/// The layers, resolved.
pub(super) struct Traffic {
    pub(super) inbound: Inbound,
    /// Without owner groups.
    pub(super) outbound: Outbound,
    pub(super) exclude_interfaces: Vec<IfName>,
    pub(super) reroute_interfaces: Vec<IfName>,
    pub(super) inputs: Vec<Input>,
}

/// Most entries that the layers may have together; each list is bounded by itself as well.
const MOST_TOGETHER: usize = 256;
/// The same of interfaces.
const MOST_INTERFACES_TOGETHER: usize = 16;

/// Resolves what pod, attachment and profile say, which [`may_override`] allowed.
pub(super) fn resolve(
    pod: &Pod,
    attachment: &Attachment,
    profile: &ProfileSpec,
) -> Result<Traffic, Explanation> {
    let of_pod = annotations(pod, profile)?;
    let mut layers = Layers {
        said: [
            (Source::Pod, &of_pod),
            (Source::Nad, &attachment.traffic),
            (Source::Profile, &profile.redirect.traffic),
        ],
        inputs: vec![],
    };
    let include_inbound = layers.replaced(
        Key::IncludeInboundPorts,
        |t| t.include_inbound_ports.clone(),
        Selection::All,
    );
    let mut exclude_inbound = layers.united(
        Key::ExcludeInboundPorts,
        |t| t.exclude_inbound_ports.as_deref(),
        &[],
    )?;
    let always = &profile.redirect.always_excluded_inbound_ports;
    unite(&mut exclude_inbound, always);
    let include_ranges = layers.replaced(
        Key::IncludeOutboundIPRanges,
        |t| t.include_outbound_ip_ranges.clone(),
        Selection::All,
    );
    let exclude_ranges = layers.united(
        Key::ExcludeOutboundIPRanges,
        |t| t.exclude_outbound_ip_ranges.as_deref(),
        &[],
    )?;
    let include_ports = layers.replaced(
        Key::IncludeOutboundPorts,
        |t| t.include_outbound_ports.clone(),
        vec![],
    );
    let exclude_ports = layers.united(
        Key::ExcludeOutboundPorts,
        |t| t.exclude_outbound_ports.as_deref(),
        &[15020],
    )?;
    let exclude_interfaces = layers.united(
        Key::ExcludeInterfaces,
        |t| t.exclude_interfaces.as_deref(),
        &[],
    )?;
    let reroute_interfaces = layers.replaced(
        Key::RerouteVirtualInterfaces,
        |t| t.reroute_virtual_interfaces.clone(),
        vec![],
    );
    let mut inputs = layers.inputs;
    let source = if *always == Redirect::default().always_excluded_inbound_ports {
        Source::BuiltIn
    } else {
        Source::Profile
    };
    inputs.push(Input {
        name: "alwaysExcludedInboundPorts".into(),
        value: comma(always),
        source,
    });
    Ok(Traffic {
        inbound: Inbound {
            include: include_inbound,
            exclude: exclude_inbound,
        },
        outbound: Outbound {
            include_ranges,
            exclude_ranges,
            include_ports,
            exclude_ports,
            owner_groups: profile.redirect.outbound_owner_groups.0.clone(),
        },
        exclude_interfaces,
        reroute_interfaces,
        inputs,
    })
}

/// The annotation that sets `key` on this pod, with its text.
fn annotation_of(pod: &Pod, key: Key) -> Option<(&'static str, &str)> {
    key.annotations()
        .iter()
        .find_map(|name| Some((*name, pod.annotation(name)?)))
}

/// Whether the annotation is only what Istio's injector writes on every pod: then the pod has not said it.
fn is_injectors(pod: &Pod, key: Key, text: &str) -> bool {
    match key {
        Key::IncludeInboundPorts | Key::IncludeOutboundIPRanges => text == "*",
        Key::ExcludeInboundPorts => {
            let status_port = pod.annotation(STATUS_PORT).unwrap_or("15020");
            text.split(',')
                .map(str::trim)
                .all(|port| port.is_empty() || port == status_port)
        }
        Key::ExcludeOutboundIPRanges
        | Key::IncludeOutboundPorts
        | Key::ExcludeOutboundPorts
        | Key::ExcludeInterfaces
        | Key::RerouteVirtualInterfaces => false,
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
fn annotations(pod: &Pod, profile: &ProfileSpec) -> Result<TrafficSettings, Explanation> {
    let mut settings = TrafficSettings::default();
    for key in Key::ALL {
        let Some((name, text)) = annotation_of(pod, key) else {
            continue;
        };
        let adds_up = key == Key::ExcludeInboundPorts && profile.tenants_may_set(key);
        if is_injectors(pod, key, text) && !adds_up {
            continue;
        }
        settings
            .set(key, text)
            .map_err(|e| Reason::InvalidAnnotation.because(format!("annotation {name}: {e}")))?;
    }
    Ok(settings)
}

struct Layers<'a> {
    /// The highest first.
    said: [(Source, &'a TrafficSettings); 3],
    inputs: Vec<Input>,
}

impl<'a> Layers<'a> {
    /// The word of the highest layer that says anything.
    fn replaced<T>(
        &mut self,
        key: Key,
        get: impl Fn(&TrafficSettings) -> Option<T>,
        built_in: T,
    ) -> T {
        for (source, settings) in self.said {
            if let Some(value) = get(settings) {
                self.told(key, settings.get(key).unwrap_or_default(), source);
                return value;
            }
        }
        if matches!(key, Key::IncludeInboundPorts | Key::IncludeOutboundIPRanges) {
            self.told(key, "*".into(), Source::BuiltIn);
        }
        built_in
    }

    /// The words of all layers together; the built-in default only where none says anything.
    fn united<T>(
        &mut self,
        key: Key,
        get: impl Fn(&'a TrafficSettings) -> Option<&'a [T]>,
        built_in: &[T],
    ) -> Result<Vec<T>, Explanation>
    where
        T: PartialEq + Clone + fmt::Display + 'a,
    {
        let (mut all, mut anybody) = (Vec::new(), false);
        for (source, settings) in self.said {
            if let Some(list) = get(settings) {
                anybody = true;
                unite(&mut all, list);
                self.told(key, comma(list), source);
            }
        }
        if !anybody && !built_in.is_empty() {
            all = built_in.to_vec();
            self.told(key, comma(built_in), Source::BuiltIn);
        }
        let most = if key == Key::ExcludeInterfaces {
            MOST_INTERFACES_TOGETHER
        } else {
            MOST_TOGETHER
        };
        if all.len() > most {
            return Err(Reason::InvalidAnnotation.because(format!(
                "{key} has more than {most} entries in pod, NAD and profile together"
            )));
        }
        Ok(all)
    }

    fn told(&mut self, key: Key, value: String, source: Source) {
        self.inputs.push(Input {
            name: key.to_string(),
            value,
            source,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Profile, ProfileOrigin};

    fn pod(annotations: &[(&str, &str)]) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.annotations = annotations
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        pod
    }

    fn profile(spec: &str) -> ProfileSpec {
        let yaml = format!(
            "{{apiVersion: meshoptin.dev/v1alpha1, kind: MeshProfile, metadata: {{name: p}}, spec: {spec}}}"
        );
        Profile::parse(&yaml, ProfileOrigin::BuiltIn).unwrap().spec
    }

    const INJECTED: &[(&str, &str)] = &[
        ("traffic.sidecar.istio.io/includeInboundPorts", "*"),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "*"),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "15020"),
    ];

    #[test]
    fn what_the_injector_writes_leaves_room_for_lower_layers() {
        let nad = Attachment::parse(Some(
            r#"{"traffic":{"includeOutboundIPRanges":"10.0.0.0/8","excludeOutboundPorts":"5432"}}"#,
        ))
        .unwrap();
        let spec = profile(
            r#"{redirect: {traffic: {includeOutboundIPRanges: 172.16.0.0/12, includeInboundPorts: "8080", excludeOutboundPorts: "9"}}}"#,
        );
        let t = resolve(&pod(INJECTED), &nad, &spec).unwrap();
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
    fn the_outbound_default_holds_only_where_nobody_says_anything() {
        let excluded = |annotations: &[(&str, &str)]| {
            resolve(&pod(annotations), &Attachment::default(), &profile("{}"))
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
    fn tenants_are_held_to_what_they_may_override_but_the_injector_is_no_tenant() {
        let spec = profile("{tenants: {mayOverride: [excludeOutboundPorts]}}");
        assert!(may_override(&pod(INJECTED), &Attachment::default(), &spec).is_ok());
        let chosen = [
            ("status.sidecar.istio.io/port", "8080"),
            ("traffic.sidecar.istio.io/excludeInboundPorts", "8080"),
        ];
        let excluded = |spec| {
            resolve(&pod(&chosen), &Attachment::default(), spec)
                .unwrap()
                .inbound
                .exclude
        };
        assert_eq!(
            excluded(&spec),
            [15020, 15021, 15090],
            "a tenant cannot name any port the status port"
        );
        assert_eq!(excluded(&profile("{}")), [8080, 15020, 15021, 15090]);
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
            let error = may_override(&pod(annotations), &Attachment::parse(nad).unwrap(), &spec)
                .err()
                .unwrap();
            assert!(
                error.reason == Reason::OverrideNotAllowed && error.cause.contains(part),
                "{error}"
            );
        }
    }

    #[test]
    fn a_bad_value_is_quoted_and_its_annotation_named() {
        let error = resolve(
            &pod(&[("traffic.sidecar.istio.io/excludeOutboundPorts", "80,*")]),
            &Attachment::default(),
            &profile("{}"),
        )
        .err()
        .unwrap();
        assert_eq!(
            error.cause,
            r#"annotation traffic.sidecar.istio.io/excludeOutboundPorts: "*" is no port from 0 to 65535"#
        );
    }

    #[test]
    fn the_deprecated_interface_annotation_counts_only_alone() {
        let both = [
            ("istio.io/reroute-virtual-interfaces", ""),
            ("traffic.sidecar.istio.io/kubevirtInterfaces", "not!valid"),
        ];
        assert!(
            resolve(&pod(&both), &Attachment::default(), &profile("{}"))
                .unwrap()
                .reroute_interfaces
                .is_empty()
        );
        assert!(resolve(&pod(&both[1..]), &Attachment::default(), &profile("{}")).is_err());
    }
}

//! The networks annotation of a pod, as Multus reads it.

use serde_json::{Map, Value};

use crate::{
    mesh::annotation,
    reason::{Explanation, Reason},
};

/// Namespace and name of each network that an annotation names: JSON, or `[namespace/]name[@interface]`, comma-separated.
pub(crate) fn parse_networks(
    text: &str,
    own_namespace: &str,
) -> Result<Vec<(String, String)>, Explanation> {
    let named = |namespace: &str, name: &str| {
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        (
            namespace.unwrap_or(own_namespace).to_owned(),
            name.to_owned(),
        )
    };
    if !text.contains(['[', '{', '"']) {
        let networks = text.split(',').map(|network| {
            let network = network.split('@').next().unwrap_or_default();
            let (namespace, name) = network.split_once('/').unwrap_or(("", network));
            named(namespace.trim(), name.trim())
        });
        return Ok(networks.filter(|(_, name)| !name.is_empty()).collect());
    }
    let invalid = |why: String| {
        Reason::InvalidAnnotation.because(format!("annotation {}: {why}", annotation::NETWORKS))
    };
    let networks: Vec<Map<String, Value>> =
        serde_json::from_str(text).map_err(|e| invalid(e.to_string()))?;
    let network = |network: &Map<String, Value>| {
        // as Go has it: whatever the case of the keys
        let field = |name: &str| {
            let mut fields = network.iter();
            match fields.rfind(|(key, _)| key.eq_ignore_ascii_case(name)) {
                None | Some((_, Value::Null)) => Ok(""),
                Some((_, Value::String(text))) => Ok(text.as_str()),
                Some(_) => Err(invalid(format!("the {name} of a network is not a text"))),
            }
        };
        Ok(named(field("namespace")?, field("name")?))
    };
    networks.iter().map(network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_in_both_forms() {
        let named = |text: &str| {
            parse_networks(text, "ns").map(|l| {
                l.into_iter()
                    .map(|(a, b)| format!("{a}/{b}"))
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(
            named("macvlan-a@net1, default/istio-cni").unwrap(),
            ["ns/macvlan-a", "default/istio-cni"]
        );
        assert_eq!(
            named(r#"[{"name":"mesh"},{"name":"x","namespace":"y"}]"#).unwrap(),
            ["ns/mesh", "y/x"]
        );
        assert_eq!(named("a /mesh, /old").unwrap(), ["a/mesh", "ns/old"]);
        let folded = r#"[{"NAME":"m\u0065sh","Namespace":""}, {"name":"x","namespace":null}]"#;
        assert_eq!(named(folded).unwrap(), ["ns/mesh", "ns/x"]);
        assert!(named("").unwrap().is_empty());
        for unreadable in ["[{]", r#"[{"name":7}]"#, r#"{"name":"mesh"}"#, r#""mesh""#] {
            assert!(named(unreadable).is_err(), "{unreadable}");
        }
    }
}

//! The networks annotation of a pod, as Multus reads it.

use serde::Deserialize;

use crate::{
    mesh::annotation,
    reason::{Explanation, Reason},
};

/// Namespace and name of each network that an annotation names: JSON, or `[namespace/]name[@interface]`, comma-separated.
pub(crate) fn named_networks(
    text: &str,
    own_namespace: &str,
) -> Result<Vec<(String, String)>, Explanation> {
    #[derive(Deserialize)]
    struct Element {
        name: String,
        namespace: Option<String>,
    }
    if text.trim_start().starts_with('[') {
        let invalid = |e| {
            Reason::InvalidAnnotation.because(format!("annotation {}: {e}", annotation::NETWORKS))
        };
        let elements: Vec<Element> = serde_json::from_str(text).map_err(invalid)?;
        return Ok(elements
            .into_iter()
            .map(|e| {
                (
                    e.namespace.unwrap_or_else(|| own_namespace.to_owned()),
                    e.name,
                )
            })
            .collect());
    }
    let element = |text: &str| {
        let text = text.split('@').next().unwrap_or_default().trim();
        let (namespace, name) = text.split_once('/').unwrap_or((own_namespace, text));
        (namespace.to_owned(), name.to_owned())
    };
    Ok(text
        .split(',')
        .map(element)
        .filter(|(_, name)| !name.is_empty())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_in_both_forms() {
        let named = |text: &str| {
            named_networks(text, "ns").map(|l| {
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
        assert!(named("").unwrap().is_empty() && named("[{]").is_err());
    }
}

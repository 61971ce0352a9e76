use std::collections::BTreeMap;

use super::RequestError;
use crate::reason::quote;

/// Longest `CNI_ARGS` that is read, in bytes.
const LONGEST: usize = 8192;

/// The pod that a call is for, as the runtime names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRef {
    /// `K8S_POD_NAMESPACE`, a DNS label.
    pub namespace: String,
    /// `K8S_POD_NAME`, a DNS subdomain.
    pub name: String,
    /// `K8S_POD_UID`; Multus may leave it empty.
    pub uid: Option<String>,
}

impl PodRef {
    /// Reads `CNI_ARGS` (`K=V;K=V`). `None` where it names no pod. Keys may be repeated with the same value: thin Multus sends each twice.
    pub(super) fn from_cni_args(text: &str) -> Result<Option<Self>, RequestError> {
        if text.len() > LONGEST {
            return Err(RequestError::args(format!(
                "is {} bytes long, more than {LONGEST}",
                text.len()
            )));
        }
        let mut pairs = BTreeMap::new();
        for pair in text.split(';').filter(|p| !p.is_empty()) {
            let Some((key, value)) = pair.split_once('=').filter(|(_, v)| !v.contains('=')) else {
                return Err(RequestError::args(format!(
                    "{} is not KEY=VALUE",
                    quote(pair)
                )));
            };
            // Multus adds its own: `IgnoreUnknown=1` of the runtime and `IgnoreUnknown=true` say the same
            let agree = |earlier: &str| {
                earlier == value || (key == "IgnoreUnknown" && is_true(earlier) == is_true(value))
            };
            if pairs
                .insert(key, value)
                .is_some_and(|earlier| !agree(earlier))
            {
                return Err(RequestError::args(format!(
                    "{} is given twice with different values",
                    quote(key)
                )));
            }
        }
        let ignore_unknown = pairs.remove("IgnoreUnknown").is_some_and(is_true);
        let mut take = |key| pairs.remove(key).filter(|v| !v.is_empty());
        let (namespace, name, uid) = (
            take("K8S_POD_NAMESPACE"),
            take("K8S_POD_NAME"),
            take("K8S_POD_UID"),
        );
        take("K8S_POD_INFRA_CONTAINER_ID");
        if let Some(key) = pairs.keys().next().filter(|_| !ignore_unknown) {
            return Err(RequestError::args(format!(
                "{} is unknown and IgnoreUnknown is not set",
                quote(key)
            )));
        }
        let (Some(namespace), Some(name)) = (namespace, name) else {
            return Ok(None);
        };
        let checked = |key: &str, value: &str, longest: usize, dots: bool| {
            let ok = |c: char| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (dots && c == '.')
            };
            let sound = value.len() <= longest
                && value.chars().all(ok)
                && !value.split('.').any(str::is_empty);
            if sound {
                Ok(value.to_owned())
            } else {
                Err(RequestError::args(format!(
                    "{key}={} is no Kubernetes name",
                    quote(value)
                )))
            }
        };
        let uid_ok =
            |u: &str| u.len() <= 128 && u.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if let Some(uid) = uid.filter(|u| !uid_ok(u)) {
            return Err(RequestError::args(format!(
                "K8S_POD_UID={} is no UID",
                quote(uid)
            )));
        }
        Ok(Some(Self {
            namespace: checked("K8S_POD_NAMESPACE", namespace, 63, false)?,
            name: checked("K8S_POD_NAME", name, 253, true)?,
            uid: uid.map(str::to_owned),
        }))
    }
}

/// Reads a boolean as the CNI library does.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "True" | "TRUE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: &str, name: &str, uid: Option<&str>) -> Option<PodRef> {
        Some(PodRef {
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.map(Into::into),
        })
    }

    #[test]
    fn what_multus_sends_is_read() {
        let thin = "IgnoreUnknown=1;K8S_POD_NAMESPACE=team-a;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=ab12;K8S_POD_UID=u-1;\
                    IgnoreUnknown=true;K8S_POD_NAMESPACE=team-a;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=ab12;K8S_POD_UID=u-1";
        let cases = [
            (thin, pod("team-a", "web-0", Some("u-1"))),
            (
                "IgnoreUnknown=true;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b.c;K8S_POD_UID=;Other=x",
                pod("a", "b.c", None),
            ),
            ("K8S_POD_NAME=b;K8S_POD_NAMESPACE=", None),
            ("", None),
            (";;", None),
        ];
        for (text, expected) in cases {
            assert_eq!(PodRef::from_cni_args(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_trusted_is_refused() {
        let cases = [
            (
                "K8S_POD_NAMESPACE=a;K8S_POD_NAMESPACE=b;K8S_POD_NAME=x",
                "twice",
            ),
            (
                "IgnoreUnknown=1;IgnoreUnknown=false;K8S_POD_NAMESPACE=a;K8S_POD_NAME=x",
                "twice",
            ),
            ("K8S_POD_NAMESPACE=a;K8S_POD_NAME", "not KEY=VALUE"),
            ("K8S_POD_NAMESPACE=a=b", "not KEY=VALUE"),
            (
                "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;Extra=1",
                "IgnoreUnknown",
            ),
            (
                "IgnoreUnknown=0;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;Extra=1",
                "IgnoreUnknown",
            ),
            (
                "K8S_POD_NAMESPACE=../../secrets;K8S_POD_NAME=b",
                "no Kubernetes name",
            ),
            (
                "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b%2f..",
                "no Kubernetes name",
            ),
            ("K8S_POD_NAMESPACE=a;K8S_POD_NAME=..", "no Kubernetes name"),
            (
                "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=x\ny",
                "no UID",
            ),
        ];
        for (text, part) in cases {
            let error = PodRef::from_cni_args(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(PodRef::from_cni_args(&"a".repeat(10_000)).is_err());
    }
}

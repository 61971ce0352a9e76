//! The inputs of a decision, for `explain`.

use serde::Serialize;

use super::{
    Namespace, OtherProxy, Pod,
    pod::{
        annotation::{INTERCEPTION_MODE, NETWORKS, REVISION, STATUS},
        env, label,
    },
};
use crate::{
    profile::{Profile, ProfileOrigin},
    words::words,
};

words! {
    /// Where an input comes from.
    #[expect(missing_docs, reason = "the names say it")]
    pub enum Source("source of an input") {
        Pod = "pod",
        Namespace = "namespace",
        RuntimeClass = "RuntimeClass",
        Nad = "NAD",
        Profile = "profile",
        BuiltIn = "built in",
    }
}

/// An input of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Input {
    pub name: String,
    pub value: String,
    pub source: Source,
}

/// The inputs before the traffic settings. Some are listed although absent, where their absence matters.
pub(super) fn inputs(pod: &Pod, namespace: &Namespace, profile: Option<&Profile>) -> Vec<Input> {
    let mut inputs = Vec::new();
    let mut note = |name: &str, value: Option<&str>, source| {
        if let Some(value) = value {
            inputs.push(Input {
                name: name.into(),
                value: value.into(),
                source,
            });
        }
    };
    if let Some(profile) = profile {
        let of_profile = if profile.origin == ProfileOrigin::BuiltIn {
            Source::BuiltIn
        } else {
            Source::Profile
        };
        let (enrollment, redirect) = (&profile.spec.enrollment, &profile.spec.redirect);
        for (name, value) in [
            ("profile", profile.name.as_str()),
            ("enrollment.mode", enrollment.mode.as_str()),
            ("redirect.interfaces", redirect.interfaces.as_str()),
            ("redirect.ipFamilies", redirect.ip_families.as_str()),
        ] {
            note(name, Some(value), of_profile);
        }
        note(
            "suspended",
            profile.spec.suspended.then_some("true"),
            of_profile,
        );
    }
    note(
        "hostNetwork",
        pod.spec.host_network.then_some("true"),
        Source::Pod,
    );
    let (class, handler) = (&pod.spec.runtime_class_name, &pod.spec.runtime_handler);
    for (name, value, source) in [
        ("runtimeClassName", class, Source::Pod),
        ("handler", handler, Source::RuntimeClass),
    ] {
        note(name, Some(value.as_str()).filter(|v| !v.is_empty()), source);
    }
    note(
        "has run before",
        pod.has_run().then_some("true"),
        Source::Pod,
    );
    note(
        &format!("annotation {NETWORKS}"),
        pod.annotation(NETWORKS),
        Source::Pod,
    );
    for name in [
        label::ISTIO_INJECTION,
        label::REVISION,
        label::MAISTRA_MEMBER_OF,
        label::MAISTRA_IGNORE,
        label::ISTIO_ENV,
    ] {
        note(
            &format!("label {name}"),
            namespace.metadata.labels.get(name).map(String::as_str),
            Source::Namespace,
        );
    }
    for name in [label::INJECT, label::REVISION] {
        note(&format!("label {name}"), pod.label(name), Source::Pod);
    }
    for name in [label::INJECT, REVISION, INTERCEPTION_MODE] {
        note(
            &format!("annotation {name}"),
            pod.annotation(name),
            Source::Pod,
        );
    }
    note(
        &format!("annotation {STATUS}"),
        pod.annotation(STATUS).map(|_| "present"),
        Source::Pod,
    );
    let Some(proxy) = pod.proxy() else {
        note("container istio-proxy", Some("absent"), Source::Pod);
        return inputs;
    };
    note("container istio-proxy", Some("present"), Source::Pod);
    note(
        "istio-proxy type",
        Some(proxy.other_proxy().map_or("sidecar", OtherProxy::as_str)),
        Source::Pod,
    );
    for name in env::ALL {
        note(
            &format!("istio-proxy env {name}"),
            proxy.env(name),
            Source::Pod,
        );
    }
    let (of_proxy, of_pod) = (&proxy.security_context, &pod.spec.security_context);
    for (name, of_proxy, of_pod) in [
        ("runAsUser", of_proxy.run_as_user, of_pod.run_as_user),
        ("runAsGroup", of_proxy.run_as_group, of_pod.run_as_group),
    ] {
        note(
            &format!("istio-proxy {name}"),
            of_proxy.or(of_pod).map(|id| id.to_string()).as_deref(),
            Source::Pod,
        );
    }
    inputs
}

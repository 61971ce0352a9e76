use std::collections::BTreeSet;

use super::{Facts, Looked};
use crate::{
    doctor::{
        cluster::{Trial, Unseen},
        objects::AdmissionPolicy,
    },
    reason::names,
};

/// The policies that are always installed, and those for tenants.
const ALWAYS: [&str; 4] = [
    "mesh-optin-agent-events",
    "mesh-optin-agent-node",
    "mesh-optin-agent-token",
    "mesh-optin-profile-fields",
];
const TENANTS: [&str; 8] = [
    "mesh-optin-attachments",
    "mesh-optin-crds",
    "mesh-optin-default-network",
    "mesh-optin-enforced",
    "mesh-optin-overrides",
    "mesh-optin-pod-status",
    "mesh-optin-pods",
    "mesh-optin-reserved-names",
];
const INSTALL: &str =
    "set the chart's value admission.enabled, or: kubectl apply -k deploy/admission/bindings";

pub(super) fn in_force(facts: &Facts, looked: &mut Looked) {
    let seen = looked
        .list(&facts.policies)
        .zip(looked.list(&facts.bindings));
    let Some((policies, bindings)) = seen else {
        return;
    };
    let bound: BTreeSet<_> = bindings
        .iter()
        .map(|b| b.spec.policy_name.as_str())
        .collect();
    let has =
        |name: &&&str| policies.iter().any(|p| p.metadata.name == **name) && bound.contains(**name);
    let missing = |all: &[&'static str]| -> Vec<&'static str> {
        all.iter().filter(|name| !has(name)).copied().collect()
    };
    let always = missing(&ALWAYS);
    if !always.is_empty() {
        looked.error(
            format!("policies {}", names(&always)),
            "they are not in force: what agents write and which fields profiles have is not checked",
            "kubectl apply -k deploy/kubernetes, or upgrade the chart's release",
        );
    }
    let tenants = missing(&TENANTS);
    if !tenants.is_empty() {
        looked.warning(
            format!("policies {}", names(&tenants)),
            "they are not in force: what tenants write is not checked before their pods start",
            INSTALL,
        );
    }
    policies.iter().for_each(|policy| typed(looked, policy));
    if tenants.is_empty() {
        tried(facts, looked);
    }
}

/// What the API server says of a policy's expressions.
fn typed(looked: &mut Looked, policy: &AdmissionPolicy) {
    let name = &policy.metadata.name;
    if !name.starts_with("mesh-optin-") {
        return;
    }
    if let Some(warning) = policy.status.type_checking.expression_warnings.first() {
        looked.warning(
            format!("policy {name}"),
            format!("the API server doubts it: {}", warning.warning.trim()),
            "install the policies of a release for this version of Kubernetes",
        );
    }
}

/// Whether an attachment that they forbid is refused.
fn tried(facts: &Facts, looked: &mut Looked) {
    let at = "policy mesh-optin-attachments";
    match (&facts.forbidden, &facts.bypasses) {
        (Ok(Trial::Refused(why)), _) if why.contains("mesh-optin-attachments") => {}
        (Ok(Trial::Refused(why)), _) => looked.not_said(format!(
            "whether they refuse cannot be tried: another policy does first: {why}"
        )),
        (Ok(Trial::Admitted), Ok(true)) => looked.not_said(
            "whether they refuse cannot be tried: you have the verb bypass on meshprofiles, which exempts you",
        ),
        (Ok(Trial::Admitted), Ok(false)) => looked.error(
            at,
            "it is bound, and lets a NetworkAttachmentDefinition with prevResult pass",
            "see the policy's binding: its validationActions should be Deny",
        ),
        (Ok(Trial::Admitted), Err(unseen)) => looked.unseen(unseen.clone()),
        // they are there and bound: that nobody may try them is no reason to call the rest unseen
        (Err(Unseen::Right(right)), _) => looked.not_said(format!(
            "whether they refuse was not tried: that needs {right}"
        )),
        (Err(unseen), _) => looked.unseen(unseen.clone()),
    }
}

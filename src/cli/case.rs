//! What was typed, resolved: pods with their namespaces, profiles and attachments, from manifests.

use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::Failure;
use crate::{
    cni::Config,
    mesh::{Attachment, Decided, Decision, IfName, Namespace, Pod, Profile, annotation, assume_injected, decide, governing},
    plan::{Plan, PodNetwork},
    reason::{Explanation, Reason},
    source::manifests::{AttachmentDefinition, EXTENSIONS, Object, parse},
};

/// Which pods, and where they are written.
#[derive(clap::Args)]
pub(super) struct Selection {
    /// The pod's (or workload's) name; all that the files hold if it is left out
    pod: Option<String>,
    /// The pod's namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Manifests, YAML or JSON: a file or a directory of them; Pod or workload, Namespace, NetworkAttachmentDefinition, MeshProfile
    #[arg(short, long = "file", value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,
    /// The families of eth0's addresses [default: those of status.podIPs, else v4]
    #[arg(long, value_delimiter = ',', value_name = "v4,v6")]
    family: Vec<Family>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Family {
    V4,
    V6,
}

/// A pod with what is decided on it.
pub(super) struct Case {
    pub(super) pod: Pod,
    /// The pod was decided as Istio's injector would make it.
    pub(super) assumed: bool,
    /// What led to the decision.
    pub(super) decided: Decided,
    /// How it is redirected, or why it is not.
    pub(super) plan: Result<Plan, Explanation>,
}

impl Selection {
    /// Reads the files and decides on each pod.
    pub(super) fn cases(&self) -> Result<Vec<Case>, Failure> {
        let mut all = Objects::default();
        for file in &self.files {
            all.read(file)?;
        }
        if all.profiles.is_empty() {
            all.profiles.push(Profile::built_in());
        }
        let wanted = |p: &&Pod| {
            self.pod.as_ref().is_none_or(|name| *name == p.metadata.name)
                && self.namespace.as_ref().is_none_or(|n| *n == p.metadata.namespace)
        };
        let pods: Vec<_> = all.pods.iter().filter(wanted).collect();
        if pods.is_empty() {
            return Err(Failure::usage("the files hold no such pod"));
        }
        pods.into_iter().map(|pod| self.case(pod, &all)).collect()
    }

    fn case(&self, pod: &Pod, all: &Objects) -> Result<Case, Failure> {
        let name = &pod.metadata.namespace;
        let namespace = all.namespaces.iter().find(|n| n.metadata.name == *name);
        let namespace = namespace
            .ok_or_else(|| Failure::usage(format!("the files hold no Namespace {name}, which pod {} is in", pod.metadata.name)))?;
        let attachment = all.attachment_of(pod);
        let governed = attachment.and_then(|a| governing(&all.profiles, namespace, &a).map(|profile| (profile, a)));
        let (profile, attachment) = match governed {
            Ok(governed) => governed,
            Err(refusal) => {
                let decided = Decided { decision: Decision::Refuse(refusal.clone()), inputs: vec![], warnings: vec![] };
                return Ok(Case { pod: pod.clone(), assumed: false, decided, plan: Err(refusal) });
            }
        };
        let assumed = assume_injected(pod, namespace, profile);
        let as_injected = assumed.as_ref().unwrap_or(pod);
        let mut decided = decide(as_injected, namespace, profile, &attachment);
        let plan = match &decided.decision {
            Decision::Redirect(intent) => Plan::new(intent, &self.network(pod)),
            Decision::Skip(e) | Decision::Refuse(e) => Err(e.clone()),
        };
        match (&decided.decision, &plan) {
            (Decision::Redirect(_), Err(refusal)) => decided.decision = Decision::Refuse(refusal.clone()),
            (_, Ok(plan)) => decided.warnings.extend(plan.warnings.clone()),
            (Decision::Skip(_) | Decision::Refuse(_), Err(_)) => {}
        }
        Ok(Case { pod: pod.clone(), assumed: assumed.is_some(), decided, plan })
    }

    /// What eth0 will have, as far as it is known.
    fn network(&self, pod: &Pod) -> PodNetwork {
        let ips: Vec<IpNet> = pod.status.pod_ips.iter().filter_map(|ip| Some(ip.ip.parse::<std::net::IpAddr>().ok()?.into())).collect();
        let (ipv4, ipv6) = match (self.family.as_slice(), ips.as_slice()) {
            ([], []) => (true, false),
            ([], ips) => (ips.iter().any(|ip| matches!(ip, IpNet::V4(_))), ips.iter().any(|ip| matches!(ip, IpNet::V6(_)))),
            (families, _) => (families.contains(&Family::V4), families.contains(&Family::V6)),
        };
        PodNetwork { ipv4, ipv6, primary: [IfName::eth0()].into() }
    }
}

#[derive(Default)]
struct Objects {
    pods: Vec<Pod>,
    namespaces: Vec<Namespace>,
    attachments: Vec<AttachmentDefinition>,
    profiles: Vec<Profile>,
}

impl Objects {
    fn read(&mut self, path: &Path) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
        if path.is_dir() {
            let mut files: Vec<_> = std::fs::read_dir(path).map_err(failed)?.filter_map(|e| Some(e.ok()?.path())).collect();
            files.retain(|f| f.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e)));
            files.sort();
            return files.iter().try_for_each(|f| self.read(f));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        for object in parse(&text, path).map_err(Failure::failed)? {
            match object {
                Object::Pod(pod) => self.pods.push(*pod),
                Object::Namespace(namespace) => self.namespaces.push(namespace),
                Object::Attachment(attachment) => self.attachments.push(attachment),
                Object::Profile(profile) => self.profiles.push(*profile),
            }
        }
        Ok(())
    }

    /// What the attachment of our type says that the pod names first; nothing where the files hold none.
    fn attachment_of(&self, pod: &Pod) -> Result<Attachment, Explanation> {
        let networks = pod.annotation(annotation::NETWORKS).unwrap_or_default();
        for (namespace, name) in named_networks(networks, &pod.metadata.namespace) {
            let definition = self.attachments.iter().find(|a| a.namespace == namespace && a.name == name);
            let Some(config) = definition.and_then(|d| d.config.as_deref()) else { continue };
            #[derive(serde::Deserialize)]
            struct Kind {
                #[serde(default, rename = "type")]
                kind: String,
            }
            let invalid = |why: String| Reason::InvalidAttachment.because(format!("NetworkAttachmentDefinition {namespace}/{name}: {why}"));
            let kind: Kind = serde_json::from_str(config).map_err(|e| invalid(e.to_string()))?;
            if kind.kind == "mesh-optin" {
                let config = Config::parse(config.as_bytes()).map_err(|e| invalid(e.explanation.cause))?;
                return Attachment::parse(config.mesh_optin.as_ref().map(|m| m.get()));
            }
        }
        Ok(Attachment::default())
    }
}

/// The networks that an annotation names, as Multus reads it: JSON, or `[namespace/]name[@interface]`, comma-separated.
fn named_networks(annotation: &str, own_namespace: &str) -> Vec<(String, String)> {
    #[derive(serde::Deserialize)]
    struct Element {
        name: String,
        namespace: Option<String>,
    }
    if annotation.trim_start().starts_with('[') {
        let elements: Vec<Element> = serde_json::from_str(annotation).unwrap_or_default();
        return elements.into_iter().map(|e| (e.namespace.unwrap_or_else(|| own_namespace.to_owned()), e.name)).collect();
    }
    let element = |text: &str| {
        let text = text.split('@').next().unwrap_or_default().trim();
        let (namespace, name) = text.split_once('/').unwrap_or((own_namespace, text));
        (namespace.to_owned(), name.to_owned())
    };
    annotation.split(',').map(element).filter(|(_, name)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_in_both_forms() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(named_networks("macvlan-a@net1, default/istio-cni", "ns"), [pair("ns", "macvlan-a"), pair("default", "istio-cni")]);
        assert_eq!(named_networks(r#"[{"name":"mesh"},{"name":"x","namespace":"y"}]"#, "ns"), [pair("ns", "mesh"), pair("y", "x")]);
        assert_eq!(named_networks("", "ns"), []);
    }
}

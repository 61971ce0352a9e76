//! What is on the node and in the cluster before an installation, and again after its removal.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::{lab::inside, run, stack::Stack};

/// Where an installation writes, or could.
const DIRECTORIES: [&str; 9] = [
    "/etc/cni",
    "/etc/mesh-optin",
    "/mnt/cni/bin",
    "/mnt/cni/confdir",
    "/mnt/cni/default.d",
    "/mnt/cni/net.d",
    "/opt/cni",
    "/run/mesh-optin",
    "/var/lib/mesh-optin",
];

/// The default network's, which comes with the node's first pod.
const BRIDGE: &str = "cni0";

/// What an uninstalled chart leaves on purpose: deploy/README.md has the commands that delete these.
pub(super) const KEPT: [&str; 8] = [
    "APIService v1alpha1.meshoptin.dev",
    "CustomResourceDefinition meshnodes.meshoptin.dev",
    "CustomResourceDefinition meshprofiles.meshoptin.dev",
    "MeshNode node1",
    "MeshProfile default",
    "ConfigMap mesh-optin/kube-root-ca.crt",
    "Namespace mesh-optin",
    "ServiceAccount mesh-optin/default",
];

/// Files with their contents, the node's network interfaces, and every object of the API server but Events.
pub(super) struct Footprint {
    files: BTreeMap<PathBuf, Vec<u8>>,
    interfaces: BTreeSet<String>,
    objects: BTreeSet<String>,
}

// === impl Footprint ===

impl Footprint {
    /// As it is once each namespace has what controllers put there.
    pub(super) fn once_settled(s: &Stack) -> Self {
        let count = |path: &str| {
            let list = s.cluster.request("GET", path, &Value::Null).unwrap();
            list["items"].as_array().unwrap().len()
        };
        let certificates = "/api/v1/configmaps?fieldSelector=metadata.name=kube-root-ca.crt";
        let all = || (count(certificates) == count("/api/v1/namespaces")).then_some(());
        assert!(s.wait_for(all).is_some(), "a namespace lacks its ConfigMap");
        Self::of(s)
    }

    fn of(s: &Stack) -> Self {
        let mut files = BTreeMap::new();
        for directory in DIRECTORIES {
            add_files(s, Path::new(directory), &mut files);
        }
        Self {
            files,
            interfaces: interfaces(s),
            objects: objects(s),
        }
    }

    /// Waits until node and cluster are as they were then, but for what is `kept`. Fails with the name of each file, interface and object that
    /// came, went or changed.
    pub(super) fn is_restored(&self, s: &Stack, kept: &[&str]) {
        let differences = || {
            let mut all = self.differences(&Self::of(s));
            all.retain(|difference| {
                let added = difference.strip_prefix("left: ");
                !added.is_some_and(|name| kept.contains(&name))
            });
            all
        };
        let restored = s.wait_for(|| differences().is_empty().then_some(()));
        assert!(restored.is_some(), "{:#?}", differences());
    }

    fn differences(&self, later: &Self) -> Vec<String> {
        let files = |of: &Self| {
            let names = of.files.keys().map(|path| path.display().to_string());
            names.collect::<BTreeSet<_>>()
        };
        let changed = self.files.iter().filter(|(path, contents)| {
            let now = later.files.get(*path);
            now.is_some_and(|now| now != *contents)
        });
        let mut all: Vec<_> = changed
            .map(|(path, _)| format!("changed: {}", path.display()))
            .collect();
        for (before, after) in [
            (&files(self), &files(later)),
            (&self.interfaces, &later.interfaces),
            (&self.objects, &later.objects),
        ] {
            all.extend(after.difference(before).map(|name| format!("left: {name}")));
            all.extend(before.difference(after).map(|name| format!("gone: {name}")));
        }
        all
    }
}

/// Adds what is at and below a path of the node: contents of files, and where links lead.
fn add_files(s: &Stack, path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let at = s.path(path.to_str().unwrap());
    let Ok(metadata) = at.symlink_metadata() else {
        return;
    };
    let contents = if metadata.is_dir() {
        for entry in std::fs::read_dir(&at).into_iter().flatten().flatten() {
            add_files(s, &path.join(entry.file_name()), files);
        }
        Vec::new()
    } else if metadata.is_symlink() {
        let to = std::fs::read_link(&at).unwrap_or_default();
        to.into_os_string().into_encoded_bytes()
    } else if metadata.is_file() {
        std::fs::read(&at).unwrap_or_default()
    } else {
        Vec::new()
    };
    files.insert(path.to_owned(), contents);
}

fn interfaces(s: &Stack) -> BTreeSet<String> {
    let listed = inside(&s.cluster.netns, || run("ip", &["-j", "link"], ""));
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let names = listed.iter().map(|link| link["ifname"].as_str().unwrap());
    let others = names.filter(|name| *name != BRIDGE);
    others.map(|name| format!("interface {name}")).collect()
}

/// Kind, namespace and name of each.
fn objects(s: &Stack) -> BTreeSet<String> {
    // a kind may go between the two commands
    let list = "kinds=$(kubectl api-resources --verbs=list --output=name | grep -v '^events') && \
        kubectl get --all-namespaces --ignore-not-found --no-headers \
        --output=custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name $(echo \"$kinds\" | paste -sd,)";
    let list = ["sh", "-c", list];
    let listed = s.wait_for(|| s.cluster.try_enter(&list).ok());
    let listed = listed.unwrap_or_else(|| s.cluster.enter(&list));
    let name = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [kind, "<none>", name] => format!("{kind} {name}"),
        [kind, namespace, name] => format!("{kind} {namespace}/{name}"),
        _ => line.to_owned(),
    };
    listed.lines().map(name).collect()
}

//! What a change must not leave out, where the compiler does not say so. `src/README.md` has the whole list, under "How to add".

use std::{collections::BTreeSet, path::Path};

use mesh_optin::{
    node::{LogLevel, SourceKind},
    plan::{Plan, PodNetwork},
    profile::{DefaultProfile, Key, Profile},
    reason::Reason,
};

use crate::{
    lowered::EVERY_SETTING,
    support::data::{injected, intent_of},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(file: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}/{file}")).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The text of every file below a folder with this extension, but for those of which `skip` says so.
pub(crate) fn all(folder: &str, extension: &str, skip: fn(&str) -> bool) -> String {
    fn collect(path: &Path, extension: &str, skip: fn(&str) -> bool, into: &mut String) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                collect(&entry.unwrap().path(), extension, skip, into);
            }
        } else if path.extension().is_some_and(|e| e == extension)
            && !skip(path.strip_prefix(ROOT).unwrap().to_str().unwrap())
        {
            *into += &std::fs::read_to_string(path).unwrap();
        }
    }
    let mut text = String::new();
    let path = Path::new(ROOT).join(folder);
    collect(&path, extension, skip, &mut text);
    text
}

/// The identifiers of a text.
pub(crate) fn identifiers(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .collect()
}

/// What the annotations lead to: the nftables rules, the iptables rules and the sentences for people.
fn outputs(annotations: &[(&str, &str)]) -> [String; 3] {
    let pod = injected(annotations, &[("ISTIO_DUAL_STACK", "true")]);
    let intent = intent_of(&pod, &Profile::built_in());
    let plan = Plan::new(&intent, &PodNetwork::of_eth0(true, true)).unwrap();
    let iptables = plan.families.captured().map(|f| plan.iptables(f));
    let iptables: Vec<_> = iptables.map(|rules| rules.to_string()).collect();
    [
        plan.nftables().to_string(),
        iptables.concat(),
        plan.captures().concat(),
    ]
}

#[test]
fn every_traffic_setting_changes_the_rules_of_both_backends_and_what_people_read() {
    const OUTPUTS: [&str; 3] = ["plan/nft/lower", "plan/ipt/lower", "plan/captures.rs"];
    for key in Key::ALL {
        let (of_key, others): (Vec<_>, Vec<_>) = EVERY_SETTING
            .into_iter()
            .partition(|(name, _)| key.annotations().contains(name));
        // some count only where another is set, some only where another is not
        let alone = (outputs(&of_key), outputs(&[]));
        let among_others = (outputs(&EVERY_SETTING), outputs(&others));
        for (at, output) in OUTPUTS.into_iter().enumerate() {
            assert!(
                alone.0[at] != alone.1[at] || among_others.0[at] != among_others.1[at],
                "{key} changes nothing in what src/{output} makes"
            );
        }
    }
}

#[test]
fn every_traffic_setting_is_tried_with_both_backends_on_a_kernel() {
    let cases = read("tests/kernel/equivalence.rs");
    for key in Key::ALL {
        assert!(
            key.annotations().iter().any(|name| cases.contains(name)),
            "tests/kernel/equivalence.rs has no case with {key}"
        );
    }
}

#[test]
fn every_reason_is_given_by_the_source_and_expected_by_a_test() {
    let is_table = |file: &str| file.starts_with("src/reason/");
    let source = all("src", "rs", is_table);
    let tests = all("tests", "rs", |file| file == "tests/pure/complete.rs");
    let (given, expected) = (identifiers(&source), identifiers(&tests));
    for reason in Reason::ALL {
        let name = reason.as_str();
        assert!(given.contains(name), "nothing gives the reason {name}");
        // as a reason, or as the state of a pod that an audit reports
        let is_expected = expected.contains(name) || expected.contains(&*name.to_lowercase());
        assert!(is_expected, "no test expects the reason {name}");
    }
}

/// Who acts on a reason.
#[derive(PartialEq)]
enum Actor {
    /// The platform admin: deploy/README.md says what to do.
    Admin,
    /// The owner of the pod or of its namespace: the remedy in the message is enough.
    Tenant,
    /// Whoever runs the container runtime, or this project.
    Developer,
    Nobody,
}

const fn actor(reason: Reason) -> Actor {
    match reason {
        Reason::NodeConfigInvalid
        | Reason::NoSource
        | Reason::AgentUnavailable
        | Reason::ApiUnreachable
        | Reason::ApiForbidden
        | Reason::ApiUnauthorized
        | Reason::DeadlineExceeded
        | Reason::WrongNode
        | Reason::UnknownProfile
        | Reason::AmbiguousProfile
        | Reason::OptOutNotAllowed
        | Reason::Suspended
        | Reason::OptOutAfterInjection
        | Reason::KernelUnsupported
        | Reason::KernelRefused
        | Reason::IptablesMissing
        | Reason::Drifted
        | Reason::Bypassing
        | Reason::Preempted => Actor::Admin,
        Reason::InvalidAttachment
        | Reason::TooManyAttachments
        | Reason::ProfileNotAllowed
        | Reason::NotEnrolled
        | Reason::SidecarMissing
        | Reason::NotInjected
        | Reason::UnenrolledSidecar
        | Reason::RevisionMismatch
        | Reason::ProxyIdentityShared
        | Reason::OverrideNotAllowed
        | Reason::InvalidAnnotation
        | Reason::NoPrimaryInterface
        | Reason::NotSupported
        | Reason::ConflictingAttachment
        | Reason::Uninstalled
        | Reason::PolicyChanged
        | Reason::FamilyNotCaptured => Actor::Tenant,
        Reason::InvalidRequest | Reason::NetnsInvalid | Reason::HostNetns | Reason::Internal => {
            Actor::Developer
        }
        Reason::NotAPod
        | Reason::PodNotFound
        | Reason::PodUidMismatch
        | Reason::NamespaceExcluded
        | Reason::HostNetwork
        | Reason::InitContainerRedirects
        | Reason::OptedOut
        | Reason::ProxyDisabled
        | Reason::NoSidecar
        | Reason::NotASidecarProxy
        | Reason::InterceptionNone
        | Reason::Redirected
        | Reason::AlreadyRedirected
        | Reason::Outdated => Actor::Nobody,
    }
}

#[test]
fn every_reason_that_an_admin_acts_on_is_in_the_table_for_operators() {
    let page = read("deploy/README.md");
    let (_, section) = page.split_once("\n## Reasons\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let table: String = rows.filter_map(|row| row.split('|').nth(1)).collect();
    for reason in Reason::ALL {
        let is_there = table.contains(&format!("`{reason}`"));
        let is_for_admins = actor(*reason) == Actor::Admin;
        assert_eq!(is_there, is_for_admins, "{reason} in deploy/README.md");
        let has_remedy = reason.remedy().is_some();
        assert_eq!(has_remedy, actor(*reason) != Actor::Nobody, "{reason}");
    }
}

#[test]
fn every_list_of_words_is_read_back_by_a_test() {
    let (source, tests) = (all("src", "rs", |_| false), read("tests/pure/words.rs"));
    let lists: Vec<_> = source
        .split("\n    pub enum ")
        .skip(1)
        .filter_map(|rest| rest.split_once("(\""))
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(char::is_alphanumeric))
        .collect();
    assert!(lists.len() > 20, "{lists:?}");
    for name in lists {
        assert!(
            tests.contains(&format!("{name}::ALL")),
            "tests/pure/words.rs does not read the words of {name}"
        );
    }
}

#[test]
fn every_word_of_the_node_configuration_is_documented() {
    let page = read("deploy/README.md");
    let (_, section) = page.split_once("\n## Node configuration\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let words = [
        SourceKind::ALL.map(SourceKind::as_str).to_vec(),
        DefaultProfile::ALL.map(DefaultProfile::as_str).to_vec(),
        LogLevel::ALL.map(LogLevel::as_str).to_vec(),
    ];
    for word in words.concat() {
        let quoted = format!("`{word}`");
        assert!(section.contains(&quoted), "deploy/README.md lacks {quoted}");
    }
}

#[test]
fn the_agent_has_a_mount_for_each_path_of_its_node() {
    let paths = read("src/node/paths.rs");
    let paths = paths.split('"').skip(1).step_by(2);
    let paths: Vec<_> = paths.filter(|path| path.starts_with('/')).collect();
    assert!(paths.len() > 10, "{paths:?}");
    for platform in ["kubernetes", "openshift"] {
        let file = format!("deploy/{platform}/agent.yaml");
        let manifest = read(&file);
        let mounts = manifest.split("mountPath: ").skip(1);
        let mounts: Vec<_> = mounts
            .filter_map(|rest| rest.split([',', '}']).next())
            .collect();
        for path in &paths {
            let is_mounted = mounts
                .iter()
                .any(|mount| Path::new(path).starts_with(mount));
            assert!(is_mounted, "{file} does not mount {path}");
        }
    }
}

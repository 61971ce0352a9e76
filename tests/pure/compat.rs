//! What is persisted or spoken, of every released version: read from then on, and written as it was.

use std::collections::BTreeMap;

use mesh_optin::{
    cni::PodRef,
    mesh::{IfName, Namespace, Pod, Profile, ProfileOrigin},
    node::{Installed, attachments::Record},
    plan::{FORMAT, Form, PodNetwork},
    reason::Reason,
    source::wire::{
        Answer, Ask, Bypassing, Governed, LookUp, Question, Refusal, Reply, Report, VERSION,
        WireProfile,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use crate::{
    kept::{data_path, first_difference, is_update},
    support::data::{data, injected, intent_of},
};

/// Something that is persisted or spoken.
struct Shape {
    /// Its file in each version's folder.
    file: &'static str,
    /// An example, as it is written now.
    written: String,
    /// What is read from text, written again.
    read: fn(&str) -> Result<Value, String>,
}

fn shape<T: Serialize + DeserializeOwned>(file: &'static str, example: &T) -> Shape {
    Shape {
        file,
        written: serde_json::to_string_pretty(example).unwrap() + "\n",
        read: |text| {
            let read: T = serde_json::from_str(text).map_err(|e| e.to_string())?;
            serde_json::to_value(read).map_err(|e| e.to_string())
        },
    }
}

fn record() -> Record {
    let annotations = [
        (
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "10.0.0.0/8,fd00::/8",
        ),
        (
            "traffic.sidecar.istio.io/excludeOutboundIPRanges",
            "10.1.0.0/16",
        ),
        ("traffic.sidecar.istio.io/includeOutboundPorts", "443"),
        ("traffic.sidecar.istio.io/excludeInterfaces", "net1"),
        ("istio.io/reroute-virtual-interfaces", "tap0"),
    ];
    let variables = [("ISTIO_DUAL_STACK", "true"), ("INVALID_DROP", "true")];
    Record {
        container_id: "c0ffee".into(),
        ifname: "net1".into(),
        netns: "/run/netns/cni-1".into(),
        netns_cookie: 4711,
        namespace: "team-a".into(),
        pod: "web".into(),
        uid: "a4ef3b6e-6fc1-4f6b-8f0c-2a7e2a9c7a01".into(),
        intent: intent_of(&injected(&annotations, &variables), &Profile::built_in()),
        network: PodNetwork {
            ipv4: true,
            ipv6: true,
            primary: [IfName::eth0()].into(),
        },
        backend: Form::Nftables,
        profile: "default".into(),
        version: "0.1.0".into(),
        format: FORMAT,
        done: true,
    }
}

fn installed() -> Installed {
    Installed {
        version: "0.1.0".into(),
        programs: BTreeMap::from([("/opt/cni/bin/mesh-optin".into(), "5d41402abc4b2a76".into())]),
        confs: ["/etc/cni/multus/net.d/istio-cni.conf".into()].into(),
        cache: "/var/lib/cni/multus".into(),
        uninstalled: false,
    }
}

fn refusal() -> Refusal {
    Refusal::from(
        &Reason::PodNotFound
            .because("there is no pod team-a/web")
            .remedy("create it"),
    )
}

fn answer(reply: Reply) -> Answer {
    Answer {
        version: VERSION,
        reply,
    }
}

fn found() -> Governed {
    let (pod, namespace) = data("tproxy");
    let object = r#"{"apiVersion":"meshoptin.dev/v1alpha1","kind":"MeshProfile","metadata":{"name":"default"},"spec":{"drift":"Repair"}}"#;
    Governed {
        pod: serde_json::from_value::<Pod>(pod).unwrap().reduced(),
        namespace: serde_json::from_value::<Namespace>(namespace).unwrap(),
        profile: WireProfile {
            origin: ProfileOrigin::File("/var/lib/mesh-optin/profiles/default.yaml".into()),
            object: Some(RawValue::from_string(object.into()).unwrap()),
        },
    }
}

fn shapes() -> Vec<Shape> {
    let PodRef {
        namespace,
        name,
        uid,
    } = PodRef {
        namespace: "team-a".into(),
        name: "web".into(),
        uid: Some(record().uid),
    };
    let profile = Some("default".to_owned());
    let look_up = LookUp {
        namespace,
        name,
        uid,
        profile,
        millis: 15_000,
    };
    let bypassing = Bypassing {
        namespace: "team-a".into(),
        name: "web".into(),
        netns: "/run/netns/cni-1".into(),
    };
    let report = Report {
        outcome: Refusal::from(&Reason::Redirected.into()),
        refused: false,
        warnings: vec![Refusal::from(
            &Reason::FamilyNotCaptured.because("eth0 has IPv6"),
        )],
        look_up: std::time::Duration::from_micros(700),
        apply: std::time::Duration::from_micros(900),
    };
    vec![
        shape("record.json", &record()),
        shape("installed.json", &installed()),
        shape("question.json", &Question::new(Ask::LookUp(look_up))),
        shape("question-bypassing.json", &Question::new(Ask::Bypassing {})),
        shape("answer.json", &answer(Reply::Found(Box::new(found())))),
        shape("answer-refused.json", &answer(Reply::Refused(refusal()))),
        shape(
            "answer-bypassing.json",
            &answer(Reply::Bypassing(vec![bypassing])),
        ),
        shape("report.json", &report),
    ]
}

/// The folder of what has not been released yet. It may change until it gets its version's name.
const NEXT: &str = "next";

/// Folders of released versions, the oldest first, and the next one's.
fn folders() -> Vec<String> {
    let name =
        |e: std::io::Result<std::fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = std::fs::read_dir(data_path("compat"))
        .unwrap()
        .map(name)
        .collect();
    let version = |n: &String| {
        n.split('.')
            .map(|p| p.parse::<u32>().unwrap_or(u32::MAX))
            .collect::<Vec<_>>()
    };
    names.sort_by_key(version);
    names
}

/// Whether all that `old` says is said by `new`, too.
fn is_kept(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => old
            .iter()
            .all(|(key, value)| new.get(key).is_some_and(|new| is_kept(value, new))),
        (Value::Array(old), Value::Array(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| is_kept(old, new))
        }
        (old, new) => old == new,
    }
}

#[test]
fn what_every_released_version_wrote_is_read() {
    let folders = folders();
    assert!(folders.iter().any(|f| f == "0.1.0"), "{folders:?}");
    for (folder, shape) in folders
        .iter()
        .flat_map(|f| shapes().into_iter().map(move |s| (f, s)))
    {
        let name = format!("compat/{folder}/{}", shape.file);
        let Ok(text) = std::fs::read_to_string(data_path(&name)) else {
            assert_ne!(folder, "0.1.0", "tests/data/{name} is missing");
            continue; // of a later version
        };
        let read = (shape.read)(&text).unwrap_or_else(|e| {
            panic!(
                "what version {folder} wrote can no longer be read, tests/data/{name}: {e}. A new field needs a default \
                 that means the old behaviour"
            )
        });
        let old = serde_json::from_str(&text).unwrap();
        assert!(
            is_kept(&old, &read),
            "something that version {folder} wrote is lost when it is read, tests/data/{name}: a field was renamed or removed. \
             Now it reads: {read:#}"
        );
    }
}

#[test]
fn what_is_written_has_the_shape_of_the_last_version_or_the_next_one() {
    let (released, mut folders) = (
        folders().into_iter().rfind(|f| f != NEXT).unwrap(),
        folders(),
    );
    let read = |folder: &str, file: &str| {
        std::fs::read_to_string(data_path(&format!("compat/{folder}/{file}"))).ok()
    };
    let changed = |folder: &str| {
        let shapes = shapes();
        shapes
            .into_iter()
            .filter(|s| read(folder, s.file).as_ref() != Some(&s.written))
            .collect::<Vec<_>>()
    };
    if is_update() && !changed(&released).is_empty() {
        std::fs::create_dir_all(data_path("compat").join(NEXT)).unwrap();
        for shape in shapes() {
            std::fs::write(
                data_path(&format!("compat/{NEXT}/{}", shape.file)),
                shape.written,
            )
            .unwrap();
        }
        folders.push(NEXT.into());
    }
    let newest = if folders.iter().any(|f| f == NEXT) {
        NEXT
    } else {
        &released
    };
    if let Some(shape) = changed(newest).first() {
        let before = read(newest, shape.file).unwrap_or_default();
        panic!(
            "{} is not written as in tests/data/compat/{newest}: nodes have files and programs of version {released}. If that is meant, and \
             the older one can still be read, record it with UPDATE=1 in tests/data/compat/{NEXT}; of questions, answers and reports \
             raise wire::VERSION as well. The first difference: {}",
            shape.file,
            first_difference(&before, &shape.written)
        );
    }
    let spoken = |s: &Shape| !["record.json", "installed.json"].contains(&s.file);
    let version = |folder: &str| -> Value {
        serde_json::from_str::<Value>(&read(folder, "question.json").unwrap()).unwrap()["version"]
            .take()
    };
    for shape in changed(&released).into_iter().filter(spoken) {
        assert_ne!(
            version(&released),
            Value::from(VERSION),
            "{} has changed since version {released}: raise wire::VERSION",
            shape.file
        );
    }
}

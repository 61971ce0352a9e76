use super::*;

const KEEP: Duration = Duration::from_secs(3600);

fn seen(name: &str, uid: &str) -> WatchedPod {
    let mut pod = Pod::default();
    (pod.metadata.namespace, pod.metadata.name, pod.metadata.uid) =
        ("ns".into(), name.into(), uid.into());
    pod.metadata
        .annotations
        .insert(annotation::NETWORKS.into(), "mesh".into());
    WatchedPod {
        pod,
        is_running: true,
    }
}

fn asked(name: &str, uid: Option<&str>) -> PodRef {
    PodRef {
        namespace: "ns".into(),
        name: name.into(),
        uid: uid.map(Into::into),
    }
}

fn namespace(label: &str) -> Option<Namespace> {
    let mut namespace = Namespace::default();
    namespace.metadata.name = "ns".into();
    namespace
        .metadata
        .labels
        .insert("label".into(), label.into());
    Some(namespace)
}

/// The namespace's label in an answer, and whether it has to be read again.
fn label(answer: Option<CachedPod>) -> (Option<String>, bool) {
    let of = |namespace: Namespace| namespace.metadata.labels["label"].clone();
    match answer {
        Some(CachedPod::Found(found)) => (Some(of(found.namespace)), false),
        Some(CachedPod::Unread { older, .. }) => (older.map(of), true),
        None => (None, false),
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_pod_with_the_requested_uid_is_returned() {
    let cache = Cache::new();
    cache.put_namespace("ns", namespace("a"), cache.sending(), false, KEEP);
    cache.put(seen("a", "1"));
    assert!(cache.get(&asked("a", Some("1"))).is_some());
    let others = [
        asked("a", Some("2")),
        asked("a", None),
        asked("b", Some("1")),
    ];
    assert!(others.iter().all(|asked| cache.get(asked).is_none()));
    cache.put(seen("a", "2"));
    cache.remove(&seen("a", "1").pod.metadata);
    let second = asked("a", Some("2"));
    assert!(
        cache.get(&second).is_some(),
        "the deletion was another incarnation's"
    );
    cache.list(vec![seen("b", "3")]);
    assert!(cache.get(&second).is_none() && cache.get(&asked("b", Some("3"))).is_some());
    let size = Size {
        pods: 1,
        namespaces: 1,
    };
    assert_eq!((cache.running().len(), cache.size()), (1, size));
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_a_read_of_its_namespace_sent_after_its_event() {
    let (cache, pod) = (Cache::new(), asked("a", Some("1")));
    let before = cache.sending();
    let arrived = cache.put(seen("a", "1")).unwrap();
    assert_eq!(label(cache.get(&pod)), (None, true));
    cache.put_namespace("ns", namespace("before"), before, false, KEEP);
    cache.put_namespace("ns", namespace("memory"), cache.sending(), true, KEEP);
    assert_eq!(label(cache.get(&pod)), (Some("memory".into()), true));
    assert!(cache.namespace("ns", arrived).is_none());
    cache.put_namespace("ns", namespace("after"), cache.sending(), false, KEEP);
    assert_eq!(label(cache.get(&pod)), (Some("after".into()), false));
    // an answer from memory that was asked for before, and comes now, may be older
    cache.put_namespace("ns", namespace("memory"), before, true, KEEP);
    assert_eq!(label(cache.get(&pod)), (Some("after".into()), false));
    // a change of the pod is no new pod; a list does not make one, either
    assert_eq!(cache.put(seen("a", "1")), None);
    cache.list(vec![seen("a", "1")]);
    assert_eq!(label(cache.get(&pod)), (Some("after".into()), false));
    // of one that has run, when it arrived says nothing
    let mut again = seen("a", "1");
    again.pod.status.container_statuses =
        vec![serde_json::from_str(r#"{"containerID":"c"}"#).unwrap()];
    cache.put(again);
    assert_eq!(label(cache.get(&pod)), (Some("after".into()), true));
    cache.put_namespace("ns", None, cache.sending(), false, KEEP);
    assert_eq!(
        label(cache.get(&pod)),
        (None, true),
        "there is no such namespace"
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_read_for_new_pods_for_repeated_look_ups_and_periodically() {
    let cache = Cache::new();
    let due = || cache.due("").map(|(name, since)| (name, since.is_some()));
    let consistent = Some(("ns".to_owned(), true));
    assert_eq!(due(), None);
    let mut plain = seen("plain", "0");
    plain.pod.metadata.annotations.clear();
    assert_eq!(cache.put(plain), None);
    assert_eq!(due(), Some(("ns".to_owned(), false)), "for the audit");
    cache.put(seen("a", "1"));
    assert_eq!(due(), consistent);
    let read = || cache.put_namespace("ns", namespace(""), cache.sending(), false, KEEP);
    read();
    assert_eq!(due(), None);
    let ask = || cache.get(&asked("a", Some("1")));
    for _ in 0..2 {
        ask();
    }
    assert_eq!(due(), None, "it was read a moment ago");
    tokio::time::advance(AGAIN).await;
    ask();
    assert_eq!(due(), consistent, "kubelet tries again");
    read();
    assert_eq!(due(), None);
    tokio::time::advance(KEEP).await;
    assert_eq!(due(), Some(("ns".to_owned(), false)));
    cache.list(Vec::new());
    assert_eq!((due(), cache.size().namespaces), (None, 0));
}

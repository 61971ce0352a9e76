//! At the limits of what pods and profiles may list: an expression that costs too much refuses the pod, whoever wrote it and whatever it says.

use serde_json::{Value, json};

use super::{PROFILES, attached, bind, create, eventually, profile, request, start};

const REFUSED: &str =
    "which governs namespace team-b, does not let pods set annotation traffic.sidecar.istio.io/";

/// 256 ports, or networks, in this order.
fn list(setting: &str, numbers: impl Iterator<Item = usize>) -> String {
    let entry = |n: usize| match setting.ends_with("IPRanges") {
        true => format!("2001:db8:1111:2222:3333:4444:5555:{n:x}/128"),
        false => (40_000 + n).to_string(),
    };
    numbers.map(entry).collect::<Vec<_>>().join(",")
}

#[test]
fn the_longest_lists_are_compared_and_longer_ones_are_refused() {
    let cluster = start();
    let settings = [
        "includeInboundPorts",
        "excludeInboundPorts",
        "includeOutboundPorts",
        "excludeOutboundPorts",
        "includeOutboundIPRanges",
        "excludeOutboundIPRanges",
    ];
    let traffic: Value = settings
        .iter()
        .map(|s| ((*s).to_owned(), json!(list(s, 0..256))))
        .collect();
    let spec = json!({"tenants": {"mayOverride": []}, "redirect": {"traffic": traffic}});
    cluster.create(PROFILES, &profile("p", &spec));
    bind(&cluster);
    let says = |texts: &[(&str, String)]| {
        let annotations = texts
            .iter()
            .map(|(setting, text)| (format!("traffic.sidecar.istio.io/{setting}"), json!(text)));
        attached(&json!({"metadata": {"annotations": annotations.collect::<Value>()}}))
    };
    let written = |pod: &Value| create(&cluster, "team-b", pod, true).0;
    eventually(|| written(&says(&[("excludeOutboundPorts", "1".into())])).is_err());
    // the same as the profile's, in another order, for each list alone and for all at once
    let same = |setting: &'static str| (setting, list(setting, (0..256).rev()));
    for setting in settings {
        let result = written(&says(&[same(setting)]));
        assert!(result.is_ok(), "{setting}: {result:?}");
    }
    let all = settings.map(same);
    assert!(written(&says(&all)).is_ok(), "{:?}", written(&says(&all)));
    // one entry that the profile has not, the last one that is looked at
    for (at, setting) in settings.into_iter().enumerate() {
        let mut texts = all.clone();
        texts[at].1 = list(setting, (1..=256).rev());
        let refused = written(&says(&texts)).unwrap_err();
        assert!(
            refused.contains(REFUSED) && refused.contains(&format!("{setting};")),
            "{setting}: {refused}"
        );
    }
    // one more than the plugin reads, and as many as an object can hold: refused for what they are, and let through for who may bypass
    for count in [257, 30_000] {
        let pod = says(&[("excludeOutboundPorts", vec!["40001"; count].join(","))]);
        let refused = written(&pod).unwrap_err();
        assert!(refused.contains(REFUSED), "{count}: {refused}");
        let path = "/api/v1/namespaces/team-b/pods?dryRun=All";
        let by_admin = request(&cluster, "admin", ("POST", path), "application/json", &pod).0;
        assert!(by_admin.is_ok(), "{count}: {by_admin:?}");
    }
}

//! What the policies add to a pod's write.

use std::time::Instant;

use serde_json::{Value, json};

use super::{PROFILES, attached, bind, eventually, pod_of, profile, start};
use crate::support::{
    cluster::{Cluster, SERVER},
    lab::inside,
    run,
};

/// Milliseconds of a dry run: of many over one connection what the fastest tenth takes at most, which other work on the machine changes least.
fn milliseconds(cluster: &Cluster, pod: &Value) -> f64 {
    std::fs::write(cluster.directory.join("pod.json"), pod.to_string()).unwrap();
    let (ca, file) = (
        cluster.directory.join("ca.crt"),
        cluster.directory.join("pod.json"),
    );
    let url = format!("{SERVER}/api/v1/namespaces/team-a/pods?dryRun=All&x=[1-300]");
    let data = format!("@{}", file.display());
    let args = [
        "-sS",
        "--cacert",
        ca.to_str().unwrap(),
        "-H",
        "Authorization: Bearer admin",
        "-H",
        "Content-Type: application/json",
        "-d",
        &data,
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{time_total}\n",
        &url,
    ];
    let started = Instant::now();
    let said = inside(&cluster.netns, || run("curl", &args, ""));
    let mut times: Vec<f64> = said
        .lines()
        .map(|line| {
            let (code, time) = line.split_once(' ').unwrap();
            assert_eq!(code, "201", "after {:?}", started.elapsed());
            time.parse::<f64>().unwrap() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 10]
}

#[test]
fn each_profile_adds_little_to_the_time_that_writing_a_pod_takes() {
    let cluster = start();
    let spec = |i: u32| {
        json!({
            "namespaces": {"matchLabels": {"team": if i == 0 { "a".to_owned() } else { format!("t{i}") }}},
            "tenants": {"mayOptOut": false, "mayShareProxyIdentity": false}, "admission": {"unattachedPods": "Deny"},
        })
    };
    let pod = attached(&json!({}));
    milliseconds(&cluster, &pod);
    let without = milliseconds(&cluster, &pod);
    cluster.create(PROFILES, &profile("p0", &spec(0)));
    bind(&cluster);
    eventually(|| pod_of(&cluster, "team-a", &json!({})).0.is_err());
    let mut made = 1;
    let mut of = |wanted: u32| {
        for i in made..wanted {
            cluster.create(PROFILES, &profile(&format!("p{i}"), &spec(i)));
        }
        made = wanted;
        std::thread::sleep(std::time::Duration::from_secs(1));
        milliseconds(&cluster, &pod)
    };
    let [one, three, fifty] = [1, 3, 50].map(&mut of);
    // four policies with parameters look at such a pod
    let each = (fifty - one) / 49.0;
    println!(
        "a pod's write: {without:.2} ms without policies, {one:.2} ms with 1 profile, {three:.2} with 3, {fifty:.2} with 50; {each:.3} ms a profile, {:.3} a profile and policy",
        each / 4.0
    );
    // measured: 0.6 of a pod's write with Kubernetes 1.37, 1.7 with 1.31; versions between them were not
    let allowed = if cluster.minor_version() < 35 {
        2.5
    } else {
        1.0
    };
    assert!(
        each < allowed * without,
        "a profile costs more than {allowed} times a pod's write without policies: {each} {without}"
    );
    assert!(one < 4.0 * allowed * without, "{one} {without}");
}

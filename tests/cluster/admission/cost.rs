//! What the policies add to a pod's write.

use serde_json::{Value, json};

use super::{PROFILES, attached, bind, eventually, pod_of, profile, start};
use crate::support::{
    cluster::{Cluster, SERVER},
    cpu_of,
    lab::inside,
    run,
};

/// How many dry runs make a figure.
const TIMES: u32 = 300;

/// Milliseconds of the API server's CPU time that a dry run takes. Other work on the machine changes them little.
fn milliseconds(cluster: &Cluster, pod: &Value) -> f64 {
    std::fs::write(cluster.directory.join("pod.json"), pod.to_string()).unwrap();
    let (ca, file) = (
        cluster.directory.join("ca.crt"),
        cluster.directory.join("pod.json"),
    );
    let url = format!("{SERVER}/api/v1/namespaces/team-a/pods?dryRun=All&x=[1-{TIMES}]");
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
        "%{http_code}\n",
        &url,
    ];
    let server = cluster.program("kube-apiserver");
    let before = cpu_of(server);
    let codes = inside(&cluster.netns, || run("curl", &args, ""));
    let cpu = cpu_of(server) - before;
    let created = codes.lines().filter(|code| *code == "201").count();
    assert_eq!(created, TIMES as usize, "{codes}");
    cpu.as_secs_f64() * 1000.0 / f64::from(TIMES)
}

#[test]
fn each_profile_adds_little_to_what_writing_a_pod_costs() {
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
        "CPU time of a pod's write: {without:.2} ms without policies, {one:.2} ms with 1 profile, {three:.2} with 3, {fifty:.2} with 50; {each:.3} ms a profile, {:.3} a profile and policy",
        each / 4.0
    );
    // measured: 0.57 of a pod's write with Kubernetes 1.37; as time on the clock 0.6, and 1.7 with 1.31; versions between them were not
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

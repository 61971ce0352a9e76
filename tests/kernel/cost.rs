//! What an ADD and a look cost at the limits, counted.

use std::process::Stdio;

use crate::support::{
    counted::instructions,
    lab::{BOTH, CONFIG, Node, inside, on_node},
    memory::Limited,
    pods::given_with,
    run,
};

/// This number of entries, by their index.
fn list(entries: u32, of: impl Fn(u32) -> String) -> String {
    (0..entries).map(of).collect::<Vec<_>>().join(",")
}

/// Instructions of an ADD of a dual-stack pod with these annotations.
fn of_an_add(node: &Node, name: &str, annotations: &[(&str, &str)]) -> u64 {
    let env = [("ISTIO_DUAL_STACK", "true")];
    let args = given_with(node, "defaults", annotations, &env);
    let lab = node.pod(name, BOTH);
    let (call, count) = instructions(node, "ADD", &lab.netns, &args, CONFIG);
    assert_eq!(call.logged_reason(), "Redirected", "{call:?}");
    count
}

/// The dearest that 512 entries can be: networks are intervals, two elements each. The last two are the status port, in and out.
fn full_lists() -> [(&'static str, String); 2] {
    let v4 = list(256, |i| format!("10.{i}.0.0/24"));
    let v6 = list(254, |i| format!("fd00:{i:x}::/64"));
    [
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", v4),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", v6),
    ]
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "a runtime calls plugins as processes"
)]
fn a_hundred_and_ten_pods_with_full_lists_stay_within_the_memory_of_multus() {
    const COUNT: usize = 110;
    on_node(|node| {
        let full = full_lists();
        let full: Vec<_> = full
            .iter()
            .map(|(key, text)| (*key, text.as_str()))
            .collect();
        let charged = |name: &str, annotations: &[(&str, &str)]| {
            let args = given_with(
                node,
                "defaults",
                annotations,
                &[("ISTIO_DUAL_STACK", "true")],
            );
            let multus = Limited::new(50 << 20);
            for number in 0..COUNT {
                let netns = node.new_netns_with_eth0(&format!("{name}{number}"));
                let script = "echo $$ > \"$1\"; exec /usr/sbin/chroot \"$2\" /mesh-optin";
                let mut call = std::process::Command::new("/bin/sh");
                call.args(["-c", script, "sh"])
                    .arg(multus.procs())
                    .arg(node.path(""))
                    .env_clear();
                call.envs([
                    ("CNI_COMMAND", "ADD"),
                    ("CNI_NETNS", &netns),
                    ("CNI_ARGS", &args),
                    ("CNI_IFNAME", "net1"),
                    ("CNI_CONTAINERID", &format!("{name}{number}")),
                ]);
                call.stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                let mut call = call.spawn().unwrap();
                std::io::Write::write_all(&mut call.stdin.take().unwrap(), CONFIG.as_bytes())
                    .unwrap();
                assert!(call.wait().unwrap().success());
            }
            assert_eq!(multus.killed(), 0);
            multus.used()
        };
        let (default, limits) = (charged("a", &[]), charged("b", &full));
        println!(
            "{COUNT} pods leave charged (cgroup v1): {:.1} MB by default, {:.1} MB with full lists",
            default as f64 / 1e6,
            limits as f64 / 1e6
        );
        assert!(limits < 45 << 20, "{limits}");
    });
}

#[test]
fn an_entry_of_a_full_list_costs_what_parsing_writing_and_reading_it_takes() {
    const ENTRIES: u64 = 256 + 254;
    on_node(|node| {
        // valgrind is slow
        let config = "{sources: [manifests], manifests: /manifests, deadline: 60s}";
        node.write("etc/mesh-optin/node.yaml", config);
        let full = full_lists();
        let full: Vec<_> = full
            .iter()
            .map(|(key, text)| (*key, text.as_str()))
            .collect();
        let (default, limits) = node.optimized(|| {
            let default = of_an_add(node, "default", &[]);
            (default, of_an_add(node, "limits", &full))
        });
        let each = (limits - default) / ENTRIES;
        println!("instructions: default {default}, at the limits {limits}, an entry {each}");
        // parsed, planned, recorded, sent to the kernel and read back
        assert!((1_000..=12_000).contains(&each), "{each} for an entry");
    });
}

/// What a CHECK may take at most, whatever is in the namespace: some milliseconds.
const MOST_INSTRUCTIONS: u64 = 50_000_000;
/// The number of elements and rules that are added; of all else, a 25th.
const MANY: u32 = 100_000;

/// What a pod that may change its own namespace adds to our table, as a script of nft.
fn hostile() -> [(&'static str, String); 7] {
    let numbered = |of: fn(u32) -> String| (0..MANY / 25).map(of).collect();
    let named = elements(MANY) + "add rule inet mesh-optin output ip daddr @s accept\n";
    let rule = "add rule inet mesh-optin output tcp dport 1 counter\n";
    [
        ("elements of a set that no rule names", elements(MANY)),
        ("elements of a set that a rule names", named),
        ("rules", rule.repeat(MANY as usize)),
        (
            "chains",
            numbered(|i| format!("add chain inet mesh-optin c{i}\n")),
        ),
        (
            "sets",
            numbered(|i| format!("add set inet mesh-optin s{i} {{ type ipv4_addr; }}\n")),
        ),
        (
            "maps",
            numbered(|i| format!("add map inet mesh-optin m{i} {{ type ipv4_addr : verdict; }}\n")),
        ),
        (
            "counters",
            numbered(|i| format!("add counter inet mesh-optin o{i}\n")),
        ),
    ]
}

/// A set with many elements, a thousand on a line.
fn elements(many: u32) -> String {
    let mut script = "add set inet mesh-optin s { type ipv4_addr; }\n".to_owned();
    for line in 0..many / 1000 {
        let entries = list(1000, |i| format!("10.{line}.{}.{}", i / 250, i % 250));
        script += &format!("add element inet mesh-optin s {{ {entries} }}\n");
    }
    script
}

#[test]
fn additions_of_a_pod_to_our_table_are_read_up_to_a_bound_and_called_drift() {
    let of_users = [false, true].into_iter();
    for (has_own_users, (what, script)) in of_users.flat_map(|own| hostile().map(|h| (own, h))) {
        on_node(|node| {
            let config = "{sources: [manifests], manifests: /manifests, deadline: 60s}";
            node.write("etc/mesh-optin/node.yaml", config);
            let args = given_with(node, "defaults", &[], &[]);
            let netns = match has_own_users {
                true => node.new_netns_of_users("pod", 200_000),
                false => node.new_netns("pod"),
            };
            let lab = node.pod_in(netns, "pod", BOTH);
            let add = node.call("ADD", &lab.netns, &args, CONFIG);
            assert_eq!(add.logged_reason(), "Redirected", "{add:?}");
            let check =
                || node.optimized(|| instructions(node, "CHECK", &lab.netns, &args, CONFIG));
            let (call, before) = check();
            assert_eq!(call.code, 0, "{call:?}");
            inside(&lab.pod, || run("nft", &["-f", "-"], &script));
            let (call, after) = check();
            let drifted = call.code == 1 && call.stdout.contains("Drifted");
            assert!(drifted, "{what}: {call:?}");
            println!(
                "CHECK with many {what} (own users: {has_own_users}): {before} instructions before, {after} after"
            );
            assert!(after < MOST_INSTRUCTIONS, "{what}: {after} instructions");
        });
    }
}

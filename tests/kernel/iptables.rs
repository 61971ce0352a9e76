//! The iptables backend among others: two ADDs at once, foreign rules, an inconclusive trial, a record that was lost.

use crate::support::{
    lab::{APP, BOTH, CONFIG, PodLab, V4, inside, on_node},
    landings::{given_everything, profile, verified},
    pods::given_with,
    run,
    traced::traced_add,
};

fn rules(lab: &PodLab, variant: &str) -> usize {
    inside(&lab.pod, || {
        run(&format!("iptables-{variant}-save"), &[], "")
    })
    .lines()
    .filter(|l| l.starts_with("-A "))
    .count()
}

#[test]
fn another_program_finds_every_chain_and_rule_and_can_clean_them_up() {
    on_node(|node| {
        node.install_iptables(&["nft"]);
        let args = given_everything(node, "Iptables");
        let lab = node.pod("a", BOTH);
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).code, 0);
        for v6 in [false, true] {
            inside(&lab.pod, || {
                let witness = iptables::new(v6).unwrap();
                let (mut rules, loopback) = (0, if v6 { "::1/128" } else { "127.0.0.1/32" });
                for table in ["mangle", "nat", "raw"] {
                    for chain in witness.list_chains(table).unwrap() {
                        for rule in witness
                            .list(table, &chain)
                            .unwrap()
                            .iter()
                            .filter_map(|l| l.strip_prefix(&format!("-A {chain} ")))
                        {
                            assert!(
                                witness.exists(table, &chain, rule).unwrap(),
                                "{table} {chain} {rule}"
                            );
                            rules += 1;
                        }
                    }
                }
                assert!(rules > 40, "{rules}");
                assert!(
                    witness
                        .exists("nat", "ISTIO_OUTPUT", &format!("-d {loopback} -j RETURN"))
                        .unwrap()
                );
                witness.flush_chain("nat", "ISTIO_OUTPUT").unwrap();
            });
        }
        let (message, _) = node.call("CHECK", &lab.netns, &args, CONFIG).error();
        assert!(
            message.starts_with("Drifted: IPv4 table nat, chain ISTIO_OUTPUT, rule 1"),
            "{message}"
        );
    });
}

#[test]
fn two_concurrent_adds_succeed_and_the_rules_exist_once() {
    for variant in ["legacy", "nft"] {
        on_node(|node| {
            node.install_iptables(&[variant]);
            let args = given_everything(node, "Iptables");
            let mut once = None;
            for round in 0..12 {
                let lab = node.pod(&format!("p{round}"), BOTH);
                let add = |ifname: &str| {
                    let env = [
                        ("CNI_NETNS", lab.netns.as_str()),
                        ("CNI_ARGS", &args),
                        ("CNI_CONTAINERID", "c0ffee"),
                        ("CNI_IFNAME", ifname),
                    ];
                    node.call_with("ADD", &env, CONFIG.as_bytes())
                };
                let second = if round % 2 == 0 { "net1" } else { "net2" };
                let (a, b) = std::thread::scope(|s| {
                    let a = s.spawn(|| add("net1"));
                    (add(second), a.join().unwrap())
                });
                assert_eq!((a.code, b.code), (0, 0), "{variant}: {a:?} {b:?}");
                assert_eq!(
                    *once.get_or_insert(rules(&lab, variant)),
                    rules(&lab, variant),
                    "{variant}, round {round}"
                );
                assert_eq!(lab.dial_out(APP, "93.184.216.34:80"), "pod:15001");
                verified(node);
            }
        });
    }
}

#[test]
fn the_record_names_the_variant_and_rules_of_another_variant_change_nothing() {
    on_node(|node| {
        node.install_iptables(&["nft", "legacy"]);
        let args = given_everything(node, "Iptables");
        let lab = node.pod("a", BOTH);
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).code, 0);
        let (nft, _) = (
            rules(&lab, "nft"),
            inside(&lab.pod, || {
                run(
                    "iptables-legacy",
                    &["-A", "INPUT", "-p", "tcp", "--dport", "1", "-j", "ACCEPT"],
                    "",
                )
            }),
        );
        verified(node);
        assert_eq!(node.call("CHECK", &lab.netns, &args, CONFIG).code, 0);
        assert_eq!(
            node.call("ADD", &lab.netns, &args, CONFIG).logged_reason(),
            "AlreadyRedirected"
        );
        assert_eq!((rules(&lab, "nft"), rules(&lab, "legacy")), (nft, 1));
        // where legacy holds rules before the first ADD, it is taken, as Istio does
        let lab = node.pod("b", BOTH);
        inside(&lab.pod, || {
            run("iptables-legacy", &["-A", "INPUT", "-j", "ACCEPT"], "")
        });
        std::fs::remove_dir_all(node.path("run/mesh-optin/attachments")).unwrap();
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).code, 0);
        assert_eq!((rules(&lab, "legacy"), rules(&lab, "nft")), (nft + 1, 0));
        verified(node);
    });
}

#[test]
fn a_foreign_rule_that_equals_one_of_ours_stays_foreign() {
    for variant in ["nft", "legacy"] {
        on_node(|node| {
            node.install_iptables(&[variant]);
            profile(node, "{backend: Iptables}");
            let args = given_with(
                node,
                "defaults",
                &[("traffic.sidecar.istio.io/excludeInterfaces", "net1")],
                &[],
            );
            let lab = node.pod("a", V4);
            inside(&lab.pod, || {
                run(
                    &format!("iptables-{variant}"),
                    &["-t", "nat", "-A", "OUTPUT", "-o", "net1", "-j", "RETURN"],
                    "",
                )
            });
            let add = node.call("ADD", &lab.netns, &args, CONFIG);
            assert_eq!(add.code, 0, "{variant}: {add:?}");
            // it is of an interface that is not captured: it stops nothing
            assert!(add.stderr.contains("Preempted"), "{add:?}");
            let save = inside(&lab.pod, || {
                run(&format!("iptables-{variant}-save"), &["-t", "nat"], "")
            });
            assert_eq!(
                save.matches("-A OUTPUT -o net1 -j RETURN").count(),
                2,
                "{save}"
            );
            assert_eq!(
                node.call("ADD", &lab.netns, &args, CONFIG).logged_reason(),
                "AlreadyRedirected"
            );
        });
    }
}

#[test]
fn an_inconclusive_trial_is_repeated() {
    on_node(|node| {
        node.write(
            "etc/mesh-optin/node.yaml",
            "{sources: [manifests], manifests: /manifests, deadline: 10s}",
        );
        node.install_iptables(&["nft"]);
        let args = given_everything(node, "Iptables");
        let lab = node.pod("a", BOTH);
        let program = node.path("usr/sbin/ip6tables-nft-restore");
        let target = std::fs::read_link(&program).unwrap();
        std::fs::remove_file(&program).unwrap();
        node.install_script(&program, "while :; do :; done");
        let (message, _) = node.call("ADD", &lab.netns, &args, CONFIG).error();
        assert!(
            message.starts_with("DeadlineExceeded: running /usr/sbin/ip6tables-nft-restore"),
            "{message}"
        );
        std::fs::remove_file(&program).unwrap();
        std::os::unix::fs::symlink(target, &program).unwrap();
        node.write(
            "etc/mesh-optin/node.yaml",
            "{sources: [manifests], manifests: /manifests, deadline: 60s}",
        );
        let add = node.call("ADD", &lab.netns, &args, CONFIG);
        assert_eq!(add.code, 0, "{add:?}");
        verified(node);
    });
}

#[test]
fn programs_are_found_with_the_path_of_thick_multus() {
    on_node(|node| {
        node.install_iptables(&["nft"]);
        let args = given_everything(node, "Iptables");
        for path in ["/bin", "", "relative:/nowhere"] {
            std::fs::remove_dir_all(node.path("run/mesh-optin")).ok();
            let lab = node.pod(&format!("p{}", path.len()), BOTH);
            let env = [
                ("CNI_NETNS", lab.netns.as_str()),
                ("CNI_ARGS", &args),
                ("CNI_CONTAINERID", "c0ffee"),
                ("CNI_IFNAME", "net1"),
                ("PATH", path),
            ];
            let add = node.call_with("ADD", &env, CONFIG.as_bytes());
            assert_eq!(add.code, 0, "{path}: {add:?}");
        }
    });
}

#[test]
fn rules_that_iptables_cannot_show_are_reported() {
    on_node(|node| {
        node.install_iptables(&["nft"]);
        let args = given_everything(node, "Iptables");
        let lab = node.pod("a", BOTH);
        assert_eq!(node.call("ADD", &lab.netns, &args, CONFIG).code, 0);
        inside(&lab.pod, || {
            run(
                "nft",
                &[
                    "insert", "rule", "ip", "nat", "OUTPUT", "meta", "l4proto", "tcp", "fib",
                    "daddr", "type", "local", "counter",
                ],
                "",
            )
        });
        let verify = node.program(&["verify", "--all"]).output().unwrap();
        let text = String::from_utf8(verify.stdout).unwrap();
        assert!(
            verify.status.code() == Some(1) && text.contains("is incompatible"),
            "{text}"
        );
    });
}

#[test]
fn an_add_killed_before_falling_back_falls_back_the_next_time() {
    on_node(|node| {
        node.install_iptables(&["legacy"]);
        let args = given_everything(node, "Auto");
        let whole = node.pod("whole", BOTH);
        let traced = traced_add(node, &whole.netns, &args, CONFIG, &[]);
        assert_eq!(traced.call.as_ref().unwrap().code, 0);
        let batch = traced
            .sent()
            .into_iter()
            .find(|s| s.bytes.len() > 1000)
            .unwrap();
        std::fs::remove_dir_all(node.path("run/mesh-optin")).unwrap();
        let lab = node.pod("a", BOTH);
        // killed when its record is written, then the transaction is refused as a kernel without nf_tables does
        let rename = traced
            .calls()
            .into_keys()
            .find(|name| name.starts_with("rename"))
            .unwrap()
            .to_owned();
        assert!(
            traced_add(
                node,
                &lab.netns,
                &args,
                CONFIG,
                &[format!("{rename}:signal=KILL:when=1")]
            )
            .killed
        );
        assert_eq!(
            std::fs::read_dir(node.path("run/mesh-optin/attachments"))
                .unwrap()
                .count(),
            1
        );
        let refused = batch.with(18, &[0, 1]);
        let add = traced_add(node, &lab.netns, &args, CONFIG, &[refused])
            .call
            .unwrap();
        assert_eq!(add.code, 0, "{add:?}");
        assert!(add.stderr.contains("iptables is used"), "{add:?}");
        verified(node);
    });
}

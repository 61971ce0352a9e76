use super::{rich, verify};
use crate::support::{
    lab::{CONFIG, inside, on_node},
    run,
};

#[test]
fn every_change_of_addresses_policy_rules_and_routes_is_found_and_a_repeated_add_completes_them() {
    on_node(|node| {
        let (lab, args) = rich(node, "TPROXY", "Nftables");
        let ip = |command: &str| {
            inside(&lab.pod, || {
                run("ip", &command.split(' ').collect::<Vec<_>>(), "")
            })
        };
        let rule = "rule XXX pref 100 fwmark 0x539 lookup 133";
        // what changes it, what undoes it (empty: a repeated ADD does)
        let mut changes: Vec<(String, String)> =
            vec![("addr del ::6/128 dev lo".into(), String::new())];
        for family in ["-4", "-6"] {
            let rule = |verb: &str| format!("{family} {}", rule.replace("XXX", verb));
            let route = |verb: &str, of: &str| format!("{family} route {verb} {of} table 133");
            let all = if family == "-4" { "0.0.0.0/0" } else { "::/0" };
            let part = if family == "-4" {
                "10.0.0.0/8"
            } else {
                "fd00::/16"
            };
            changes.extend([
                (rule("del"), String::new()),
                (route("del", &format!("local {all} dev lo")), String::new()),
                (
                    rule("add").replace("100", "99"),
                    rule("del").replace("100", "99"),
                ),
                (
                    rule("add")
                        .replace("0x539", "0x539/0xff")
                        .replace("100", "98"),
                    rule("del")
                        .replace("0x539", "0x539/0xff")
                        .replace("100", "98"),
                ),
                (
                    format!("{family} rule add pref 7 lookup 200"),
                    format!("{family} rule del pref 7"),
                ),
                (
                    route("add", &format!("local {part} dev lo")),
                    route("del", &format!("local {part} dev lo")),
                ),
                (
                    route("add", &format!("blackhole {part}")),
                    route("del", &format!("blackhole {part}")),
                ),
            ]);
        }
        let tried = changes.len();
        for (change, undo) in changes {
            ip(&change);
            let (code, told, text) = verify(node);
            assert!(code == 5 && told > 0, "{change}: {text}");
            if undo.is_empty() {
                assert_eq!(
                    node.call("ADD", &lab.netns, &args, CONFIG).logged_reason(),
                    "AlreadyRedirected"
                );
            } else {
                ip(&undo);
            }
            assert_eq!(verify(node).0, 0, "after {undo}");
        }
        assert_eq!(tried, 15);
    });
}

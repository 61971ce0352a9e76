//! What `verify` says where something else comes first, or where there is nothing to look at.

use super::{rich, verify};
use crate::support::{
    lab::{inside, on_node},
    run,
};

#[test]
fn foreign_rules_before_ours_that_let_packets_pass_are_reported_but_no_drift() {
    on_node(|node| {
        let (lab, _) = rich(node, "REDIRECT", "Nftables");
        let chains = [
            ("filter hook prerouting priority -301", "accept"),
            ("nat hook output priority -150", "tcp dport 80 accept"),
        ];
        for (hook, rule) in chains {
            inside(&lab.pod, || {
                run(
                    "nft",
                    &["-f", "-"],
                    &format!("table ip f {{\n chain c {{\n type {hook};\n {rule}\n }}\n}}\n"),
                )
            });
            let (code, told, text) = verify(node);
            assert!(code == 0 && told == 1 && text.contains("accept"), "{text}");
            inside(&lab.pod, || run("nft", &["delete", "table", "ip", "f"], ""));
        }
        // what cannot be before ours, or does nothing, is not told
        for (flags, hook, rule) in [
            ("", "filter hook prerouting priority 0", "drop"),
            (
                "flags dormant;",
                "filter hook prerouting priority -301",
                "drop",
            ),
            ("", "filter hook prerouting priority -301", "counter"),
            ("", "filter hook input priority -301", "drop"),
        ] {
            inside(&lab.pod, || {
                run(
                    "nft",
                    &["-f", "-"],
                    &format!(
                        "table ip f {{\n {flags}\n chain c {{\n type {hook};\n {rule}\n }}\n}}\n"
                    ),
                )
            });
            let (code, told, text) = verify(node);
            assert!(code == 0 && told == 0, "{hook} {rule}: {text}");
            inside(&lab.pod, || run("nft", &["delete", "table", "ip", "f"], ""));
        }
    });
}

#[test]
fn a_namespace_with_another_cookie_is_reported_as_gone_and_an_unknown_one_as_unknown() {
    on_node(|node| {
        let (lab, _) = rich(node, "REDIRECT", "Nftables");
        let verify = |args: &[&str]| {
            let output = node
                .program(&[&["verify"], args].concat())
                .output()
                .unwrap();
            (
                output.status.code().unwrap(),
                String::from_utf8(output.stdout).unwrap()
                    + &String::from_utf8(output.stderr).unwrap(),
            )
        };
        for args in [
            &["--netns", &lab.netns][..],
            &["defaults"],
            &["defaults", "-n", "team-a"],
            &["--all"],
        ] {
            let (code, text) = verify(args);
            assert!(
                code == 0 && text.contains("is redirected as it should be (nftables"),
                "{args:?}: {text}"
            );
        }
        assert_eq!(verify(&["nobody"]).0, 1);
        assert_eq!(verify(&[]).0, 2);
        assert_eq!(verify(&["--netns", "/proc/self/ns/mnt"]).0, 1);
        nix::mount::umount2(
            &node.path("run/netns/pod"),
            nix::mount::MntFlags::MNT_DETACH,
        )
        .unwrap();
        std::fs::remove_file(node.path("run/netns/pod")).unwrap();
        let (code, text) = verify(&["--all"]);
        assert!(code == 0 && text.contains("is gone"), "{text}");
    });
}

#[test]
fn verify_all_never_reports_success_where_it_could_not_check() {
    on_node(|node| {
        let verify = || {
            let output = node.program(&["verify", "--all"]).output().unwrap();
            (
                output.status.code().unwrap(),
                String::from_utf8(output.stdout).unwrap(),
                String::from_utf8(output.stderr).unwrap(),
            )
        };
        let (code, out, err) = verify();
        assert!(
            code == 1 && out.is_empty() && err.contains("nothing of mesh-optin is installed here"),
            "{code} {out}{err}"
        );
        node.write("var/lib/mesh-optin/installed.json", "{}");
        let (code, _, err) = verify();
        assert_eq!(code, 0, "installed, and no pod yet");
        let unseen = "the agent is not running: pods that bypass the mesh were not looked for";
        assert!(err.contains(unseen), "{err}");
        // records that cannot be listed are not the same as none
        node.write("run/mesh-optin/attachments", "");
        let (code, out, err) = verify();
        assert!(
            code == 1 && out.is_empty() && err.contains("cannot be listed"),
            "{code} {out}{err}"
        );
        std::fs::remove_dir_all(node.path("run/mesh-optin")).unwrap();
        std::fs::remove_file(node.path("var/lib/mesh-optin/installed.json")).unwrap();
        let (lab, _) = rich(node, "REDIRECT", "Nftables");
        node.write("run/mesh-optin/attachments/c0ffee.net2.json", "{}");
        let (code, out, err) = verify();
        assert!(
            code == 1
                && out.contains("is redirected as it should be")
                && err.contains("1 of the records"),
            "{code} {out}{err}"
        );
        drop(lab);
    });
}

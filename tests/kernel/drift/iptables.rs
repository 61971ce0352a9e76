use super::{
    changes::{changed, missed, nothing_missed},
    rich, verify,
};
use crate::support::{
    lab::{inside, on_node},
    run,
};

fn of_iptables(mode: &str, variant: &str, at_least: [usize; 2]) {
    on_node(|node| {
        node.install_iptables(&[variant]);
        let (lab, _) = rich(node, mode, "Iptables");
        assert_eq!(verify(node).0, 0, "{}", verify(node).2);
        for (prefix, at_least) in ["iptables", "ip6tables"].into_iter().zip(at_least) {
            let (save, restore) = (
                format!("{prefix}-{variant}-save"),
                format!("{prefix}-{variant}-restore"),
            );
            let whole: String = inside(&lab.pod, || run(&save, &[], ""))
                .lines()
                .filter(|l| !l.starts_with('#'))
                .map(|l| format!("{l}\n"))
                .collect();
            let mut changes = changed(&whole, |line| line.starts_with("-A "));
            for line in whole.lines() {
                if let Some(chain) = line.strip_prefix(':').and_then(|l| l.split(' ').next()) {
                    let ours = chain.starts_with("ISTIO_");
                    let used = ours || chain == "PREROUTING" || chain == "OUTPUT";
                    if !used {
                        continue;
                    }
                    // a chain's table is that in which its line is
                    let table_start = whole[..whole.find(line).unwrap()].rfind('*').unwrap();
                    let (head, table) = whole.split_at(table_start);
                    let end = table.find("COMMIT").unwrap();
                    let (table, tail) = table.split_at(end);
                    let in_chain = format!("-A {chain} ");
                    let flushed: String = table
                        .lines()
                        .filter(|l| !l.starts_with(&in_chain))
                        .map(|l| format!("{l}\n"))
                        .collect();
                    if flushed != table {
                        changes
                            .push((format!("flushed {chain}"), format!("{head}{flushed}{tail}")));
                        let front = table.replacen(
                            &in_chain,
                            &format!("-A {chain} -j ACCEPT\n{in_chain}"),
                            1,
                        );
                        changes.push((
                            format!("accept in front of {chain}"),
                            format!("{head}{front}{tail}"),
                        ));
                    }
                    if !ours && table.contains("raw") {
                        changes.push((
                            format!("policy of {chain}"),
                            format!(
                                "{head}{}{tail}",
                                table
                                    .replacen(
                                        &format!("{line}\n"),
                                        &line.replace("ACCEPT", "DROP"),
                                        1
                                    )
                                    .replacen("DROP [0:0]", "DROP [0:0]\n", 1)
                            ),
                        ));
                    }
                }
            }
            changes.push((
                "a chain more".into(),
                whole.replacen("COMMIT", ":ISTIO_MORE - [0:0]\nCOMMIT", 1),
            ));
            changes.push((
                "no rules".into(),
                "*nat\nCOMMIT\n*mangle\nCOMMIT\n*raw\nCOMMIT\n".into(),
            ));
            let outcome = missed(node, &lab, changes, &whole, &[&restore]);
            nothing_missed(&format!("{prefix}-{variant} {mode}"), at_least, outcome);
        }
    });
}

#[test]
fn every_change_of_the_iptables_form_is_found() {
    of_iptables("REDIRECT", "nft", [296, 284]);
}

#[test]
fn every_change_of_the_iptables_form_is_found_in_tproxy_mode() {
    of_iptables("TPROXY", "nft", [427, 415]);
}

#[test]
fn every_change_of_the_legacy_iptables_form_is_found() {
    of_iptables("TPROXY", "legacy", [433, 417]);
}

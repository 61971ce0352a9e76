use crate::plan::Preempting;

/// Tables of the older iptables in which there may be something before our rules: what they hold is not netlink's to show.
pub(super) fn legacy_tables() -> Option<Preempting> {
    let names = |path| std::fs::read_to_string(path).unwrap_or_default();
    let names = names("/proc/thread-self/net/ip_tables_names")
        + &names("/proc/thread-self/net/ip6_tables_names");
    let there = |table: &&str| names.lines().any(|name| name == *table);
    let tables: Vec<_> = ["raw", "mangle", "nat"].into_iter().filter(there).collect();
    let rule = format!("tables {} (see iptables-legacy-save)", tables.join(", "));
    (!tables.is_empty()).then(|| Preempting {
        place: "iptables-legacy".into(),
        rule,
        decides: true,
        stops: false,
    })
}

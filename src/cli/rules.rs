use serde_json::{Value, json};

use super::selection::PodSelection;
use crate::{
    explain::Case,
    plan::{Plan, ipt, packet::Family, routing::TABLE},
    reason::Reason,
    terminal::{CommandFailure, Exit, complain, plain, print, print_json},
};

/// Arguments of `rules`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    selection: PodSelection,
    /// text: sentences and rules; nft: for `nft -f`; iptables: for `iptables-restore`, or with `--family v6` for `ip6tables-restore`; json:
    /// for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Nft,
    Iptables,
    Json,
}

/// Prints the rules of every selected pod that is redirected, and the reason for every other.
pub(super) fn run(args: &Args) -> Result<Exit, CommandFailure> {
    let cases = args.selection.cases()?;
    if matches!(args.format, Format::Nft | Format::Iptables) && cases.len() > 1 {
        return Err(CommandFailure::usage(
            "the formats nft and iptables take one pod: the rules of several would be merged",
        ));
    }
    if args.format == Format::Json {
        let pods: Vec<_> = cases.iter().map(as_json).collect();
        print_json(&pods)?;
    }
    let mut exit = Exit::Done;
    for case in &cases {
        let name = format!(
            "{}/{}",
            plain(&case.pod.metadata.namespace),
            plain(&case.pod.metadata.name)
        );
        match (&case.plan, &case.decided.decision) {
            (Ok(plan), _) => match args.format {
                Format::Text => print(&as_text(&name, plan)),
                Format::Nft => print(&plan.nftables().to_string()),
                Format::Iptables => print(&as_iptables(
                    &name,
                    plan,
                    args.selection.one_family(&case.pod)?,
                )?),
                Format::Json => {}
            },
            (Err(why), crate::mesh::Decision::Skip(_)) => {
                complain(&format!("pod {name} is left alone: {why}"))
            }
            (Err(why), _) => {
                complain(&format!("pod {name} is refused: {why}"));
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

fn as_iptables(name: &str, plan: &Plan, family: Family) -> Result<String, CommandFailure> {
    if plan.families.captured().any(|f| f == family) {
        return Ok(plan.iptables(family).to_string());
    }
    Err(CommandFailure::failed(format!(
        "{family} of pod {name} is not captured: it has no rules"
    )))
}

fn as_text(name: &str, plan: &Plan) -> String {
    let sentences: String = plan.captures().iter().map(|s| format!("# {s}\n")).collect();
    let routing: String = plan
        .routing()
        .to_string()
        .lines()
        .map(|line| format!("# {line}\n"))
        .collect();
    format!("# Pod {name}\n{sentences}{routing}{}\n", plan.nftables())
}

fn as_json(case: &Case) -> Value {
    let (namespace, name) = (&case.pod.metadata.namespace, &case.pod.metadata.name);
    match &case.plan {
        Err(why) => json!({
            "namespace": namespace, "name": name, "reason": why.reason.as_str(),
            "table": null, "iptables": [], "addresses": [], "policyRules": [], "routes": [],
        }),
        Ok(plan) => {
            let chain = |c: &crate::plan::nft::Chain| {
                let rules: Vec<_> = c.rules.iter().map(ToString::to_string).collect();
                json!({ "name": c.name, "hook": c.hook.as_ref().map(ToString::to_string), "rules": rules })
            };
            let chains: Vec<_> = plan.nftables().chains.iter().map(chain).collect();
            let routing = plan.routing();
            let addresses: Vec<_> = routing
                .addresses
                .iter()
                .map(|a| json!({ "interface": "lo", "address": a.to_string() }))
                .collect();
            json!({
                "namespace": namespace, "name": name, "reason": Reason::Redirected.as_str(),
                "table": { "family": "inet", "name": crate::plan::nft::TABLE, "chains": chains },
                "iptables": plan.families.captured().map(|f| iptables_as_json(plan, f)).collect::<Vec<_>>(),
                "addresses": addresses,
                "policyRules": routing.rules.iter().map(|r| entry(r.family(), r)).collect::<Vec<_>>(),
                "routes": routing.routes.iter().map(|r| entry(r.family(), &format!("{r} table {TABLE}"))).collect::<Vec<_>>(),
            })
        }
    }
}

fn entry(family: Family, what: &impl ToString) -> Value {
    json!({ "family": family.to_string(), "rule": what.to_string() })
}

fn iptables_as_json(plan: &Plan, family: Family) -> Value {
    let chain = |c: &ipt::Chain| json!({ "name": c.name, "rules": c.rules.iter().map(ToString::to_string).collect::<Vec<_>>() });
    let table = |t: &ipt::Table| json!({ "name": t.name.as_str(), "chains": t.chains.iter().map(chain).collect::<Vec<_>>() });
    json!({ "family": family.to_string(), "tables": plan.iptables(family).tables.iter().map(table).collect::<Vec<_>>() })
}

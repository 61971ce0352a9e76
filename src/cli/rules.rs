use serde_json::{Value, json};

use super::{
    Exit, Failure,
    case::{Case, Selection},
    output::{complain, plain, say},
};
use crate::{plan::Plan, reason::Reason};

/// Arguments of `rules`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// text: sentences and rules; nft: for `nft -f`; iptables: for `iptables-restore`; json: for machines
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

/// Prints the rules of every selected pod that is redirected; says why for the others.
pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    if args.format == Format::Iptables {
        return Err(Failure::failed(Reason::NotSupported.because("the iptables form is not supported by this version").to_string()));
    }
    let cases = args.selection.cases()?;
    if args.format == Format::Nft && cases.len() > 1 {
        return Err(Failure::usage("--format nft takes one pod: nft would merge the tables of several"));
    }
    if args.format == Format::Json {
        let pods: Vec<_> = cases.iter().map(as_json).collect();
        let text = serde_json::to_string_pretty(&json!({ "pods": pods })).map_err(|e| Failure::failed(e.to_string()))?;
        say(&format!("{text}\n"));
    }
    let mut exit = Exit::Done;
    for case in &cases {
        let name = format!("{}/{}", plain(&case.pod.metadata.namespace), plain(&case.pod.metadata.name));
        match (&case.plan, &case.decided.decision) {
            (Ok(plan), _) => match args.format {
                Format::Text => say(&as_text(&name, plan)),
                Format::Nft => say(&plan.nftables().to_string()),
                Format::Json | Format::Iptables => {}
            },
            (Err(why), crate::mesh::Decision::Skip(_)) => complain(&format!("pod {name} is left alone: {why}")),
            (Err(why), _) => {
                complain(&format!("pod {name} is refused: {why}"));
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

fn as_text(name: &str, plan: &Plan) -> String {
    let sentences: String = plan.captures().iter().map(|s| format!("# {s}\n")).collect();
    let addresses: String = plan.addresses_on_lo().iter().map(|address| format!("# Address {address} on lo.\n")).collect();
    format!("# Pod {name}\n{sentences}{addresses}{}\n", plan.nftables())
}

fn as_json(case: &Case) -> Value {
    let (namespace, name) = (&case.pod.metadata.namespace, &case.pod.metadata.name);
    match &case.plan {
        Err(why) => json!({ "namespace": namespace, "name": name, "reason": why.reason.as_str(), "table": null, "addresses": [] }),
        Ok(plan) => {
            let chain = |c: &crate::plan::nft::Chain| {
                let rules: Vec<_> = c.rules.iter().map(ToString::to_string).collect();
                json!({ "name": c.name, "hook": c.hook.as_ref().map(ToString::to_string), "rules": rules })
            };
            let chains: Vec<_> = plan.nftables().chains.iter().map(chain).collect();
            let addresses: Vec<_> = plan.addresses_on_lo().iter().map(|a| json!({ "interface": "lo", "address": a.to_string() })).collect();
            json!({
                "namespace": namespace, "name": name, "reason": Reason::Redirected.as_str(),
                "table": { "family": "inet", "name": crate::plan::nft::TABLE, "chains": chains },
                "addresses": addresses,
            })
        }
    }
}

//! `doctor`: every check, with what to do.

use serde_json::{Value, json};

use super::{
    checks::Check,
    cluster::{Cluster, Unseen},
    facts::Facts,
    finding::{CheckOutcome, Finding, Looked, is_blind},
    gather::gather,
};
use crate::terminal::{Color, CommandFailure, Exit, colored, plain, print};

/// Arguments of `doctor`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Check only what counts before mesh-optin is installed
    #[arg(long)]
    pre: bool,
    /// The output format; short: only what is not ok
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Short,
    Json,
}

/// Looks at the cluster, and says what was found.
pub(super) async fn run(
    args: &Args,
    cluster: &Cluster,
    scope: Option<&str>,
) -> Result<Exit, CommandFailure> {
    let facts = gather(cluster, scope, args.pre).await;
    let facts = facts.map_err(|unseen| CommandFailure::failed(sentence(&unseen)))?;
    let checks = look(&facts);
    let exit = exit(&checks);
    match args.output {
        Format::Text => print(&text(&facts, &checks, false)),
        Format::Short => print(&text(&facts, &checks, true)),
        Format::Json => {
            let json = serde_json::to_string_pretty(&as_json(&facts, &checks));
            print(&(json.map_err(|e| CommandFailure::failed(e.to_string()))? + "\n"));
        }
    }
    Ok(exit)
}

/// All checks, or those that count before an installation.
pub(super) fn look(facts: &Facts) -> Vec<(Check, Looked)> {
    let checks = Check::ALL.into_iter();
    let counts = checks.filter(|check| !facts.is_before || check.is_before());
    counts.map(|check| (check, check.look(facts))).collect()
}

/// What was found counts more than what was not seen; advice does not count.
pub(super) fn exit(checks: &[(Check, Looked)]) -> Exit {
    let found = |(_, looked): &(Check, Looked)| looked.outcome() >= CheckOutcome::Warning;
    if checks.iter().any(found) {
        Exit::Found
    } else if checks.iter().any(|(_, looked)| is_blind(looked)) {
        Exit::Failed
    } else {
        Exit::Done
    }
}

fn sentence(unseen: &Unseen) -> String {
    match unseen {
        Unseen::Right(right) => format!("skipped: needs {right}"),
        Unseen::Failed(why) => format!("skipped: {why}"),
        Unseen::NotSaid(what) => format!("unknown: {what}"),
    }
}

/// For people.
pub(super) fn text(facts: &Facts, checks: &[(Check, Looked)], is_short: bool) -> String {
    let mut out = String::new();
    for (check, looked) in checks {
        let outcome = looked.outcome();
        if is_short && outcome == CheckOutcome::Ok {
            continue;
        }
        let color = match outcome {
            CheckOutcome::Ok => Color::Green,
            CheckOutcome::Error => Color::Red,
            CheckOutcome::Advice
            | CheckOutcome::Unknown
            | CheckOutcome::Skipped
            | CheckOutcome::Warning => Color::Yellow,
        };
        let word = colored(&format!("{:8}", outcome.as_str()), color);
        out += &format!("{word} {:26}{}\n", check.as_str(), check.title());
        let (findings, more) = looked.shown();
        findings
            .iter()
            .for_each(|finding| out += &of_finding(finding));
        if more > 0 {
            out += &format!("         and {more} more\n");
        }
        for unseen in &looked.unseen {
            out += &format!("         {}\n", plain(&sentence(unseen)));
        }
    }
    if !is_short || !out.is_empty() {
        out += "\n";
    }
    out + &summary(facts, checks)
}

fn of_finding(finding: &Finding) -> String {
    let (object, message) = (plain(&finding.object), plain(&finding.message));
    let remedy = plain(&finding.remedy);
    format!("         {object}: {message}\n         To do: {remedy}\n")
}

fn summary(facts: &Facts, checks: &[(Check, Looked)]) -> String {
    let count = |outcome| {
        checks
            .iter()
            .filter(|(_, looked)| looked.outcome() == outcome)
            .count()
    };
    let (errors, warnings) = (count(CheckOutcome::Error), count(CheckOutcome::Warning));
    let blind = checks.iter().filter(|(_, looked)| is_blind(looked)).count();
    let scope = match &facts.scope {
        Some(namespace) => format!(
            " Of pods and namespaces only {} was looked at.",
            plain(namespace)
        ),
        None => String::new(),
    };
    let seen = match blind {
        0 => String::new(),
        n => format!(" {n} of {} checks could not see everything.", checks.len()),
    };
    let found = match (errors, warnings) {
        (0, 0) if blind > 0 => "Nothing was found in what could be seen.".to_owned(),
        (0, 0) => match count(CheckOutcome::Unknown) {
            0 => "Nothing is wrong.".to_owned(),
            n => format!(
                "Nothing was found; {n} of {} checks could not tell.",
                checks.len()
            ),
        },
        (errors, warnings) => {
            format!("Something is wrong: errors in {errors} checks, warnings in {warnings}.")
        }
    };
    format!("{found}{seen}{scope}\n")
}

/// For programs.
pub(super) fn as_json(facts: &Facts, checks: &[(Check, Looked)]) -> Value {
    let of_check = |(check, looked): &(Check, Looked)| {
        let texts = |is_said: bool| -> Vec<&str> {
            let texts = looked.unseen.iter().filter_map(|unseen| match unseen {
                Unseen::Right(text) | Unseen::Failed(text) => (!is_said).then_some(text),
                Unseen::NotSaid(text) => is_said.then_some(text),
            });
            texts.map(String::as_str).collect()
        };
        let (findings, more) = looked.shown();
        json!({
            "check": check, "title": check.title(), "result": looked.outcome(),
            "findings": findings, "more": more, "skipped": texts(false), "unknown": texts(true),
        })
    };
    json!({
        "healthy": exit(checks) == Exit::Done,
        "kubernetes": facts.version,
        "checks": checks.iter().map(of_check).collect::<Vec<_>>(),
    })
}

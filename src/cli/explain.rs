use serde::Serialize;

use super::{
    Exit, Failure,
    case::{Case, OnNode, Selection},
    output::{Colour, Format, coloured, plain, say, say_json, table},
};
use crate::{
    mesh::{Decision, Input},
    reason::{Explanation, Reason},
    words::words,
};

/// Arguments of `explain`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// The output format
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// A pod as it is reported, the same for people and machines.
#[derive(Serialize)]
struct Told<'a> {
    namespace: &'a str,
    name: &'a str,
    outcome: Outcome,
    reason: &'static str,
    message: String,
    remedy: Option<String>,
    assumed: bool,
    inputs: &'a [Input],
    captures: Vec<String>,
    warnings: Vec<String>,
    /// For a pod of this node: what its ADD created, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<Option<&'a str>>,
    /// How its last ADD ended, if it created nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<&'a str>,
}

words! {
    /// What happens to a pod.
    enum Outcome("outcome") {
        Redirect = "redirect",
        Skip = "skip",
        Refuse = "refuse",
    }
}

/// Explains every selected pod.
pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let cases = args.selection.cases()?;
    let told: Vec<_> = cases.iter().map(tell).collect();
    match args.output {
        Format::Json => say_json(&told)?,
        Format::Text => told.iter().for_each(|t| say(&text(t))),
    }
    Ok(Exit::worst(told.iter().map(|t| t.outcome.exit())))
}

fn tell(case: &Case) -> Told<'_> {
    let because = |e: &Explanation| {
        (
            e.reason,
            e.cause.clone(),
            e.remedy.as_ref().map(ToString::to_string),
        )
    };
    let (outcome, (reason, message, remedy)) = match &case.decided.decision {
        Decision::Redirect(_) => (Outcome::Redirect, because(&Reason::Redirected.into())),
        Decision::Skip(e) => (Outcome::Skip, because(e)),
        Decision::Refuse(e) => (Outcome::Refuse, because(e)),
    };
    Told {
        namespace: &case.pod.metadata.namespace,
        name: &case.pod.metadata.name,
        outcome,
        reason: reason.as_str(),
        message,
        remedy,
        assumed: case.assumed,
        inputs: &case.decided.inputs,
        captures: case
            .plan
            .as_ref()
            .map(crate::plan::Plan::captures)
            .unwrap_or_default(),
        warnings: case
            .decided
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect(),
        made: case.on_node.as_ref().map(|on_node| match on_node {
            OnNode::Made(made) => Some(made.as_str()),
            OnNode::Decided(_) | OnNode::Nothing => None,
        }),
        decided: case.on_node.as_ref().and_then(|on_node| match on_node {
            OnNode::Decided(how) => Some(how.as_str()),
            OnNode::Made(_) | OnNode::Nothing => None,
        }),
    }
}

fn text(told: &Told<'_>) -> String {
    // for a pod of this node: what its ADD did, and what one would do now
    let (word, colour) = match (told.outcome, told.made) {
        (Outcome::Redirect, None) => ("is redirected", Colour::Green),
        (Outcome::Redirect, Some(Some(_))) => ("was redirected", Colour::Green),
        (Outcome::Redirect, Some(None)) => ("would be redirected", Colour::Yellow),
        (Outcome::Skip, None) => ("is left alone", Colour::Yellow),
        (Outcome::Skip, Some(_)) => ("would be left alone", Colour::Yellow),
        (Outcome::Refuse, None) => ("is refused", Colour::Red),
        (Outcome::Refuse, Some(_)) => ("would be refused", Colour::Red),
    };
    let mut out = format!(
        "Pod {}/{} {}.\n",
        plain(told.namespace),
        plain(told.name),
        coloured(word, colour)
    );
    out += &format!(
        "  {}: {}\n",
        coloured(told.reason, Colour::Bold),
        plain(&told.message)
    );
    match told.made {
        Some(Some(made)) => out += &format!("  On this node: {}\n", plain(made)),
        Some(None) => {
            let how = told.decided.unwrap_or("nothing was made for it");
            out += &format!("  On this node: {}\n", plain(how));
        }
        None => {}
    }
    if let Some(remedy) = &told.remedy {
        out += &format!("  To do: {}\n", plain(remedy));
    }
    if told.assumed {
        out += "  Assumed: the manifest has not been through admission; it is decided as Istio's injector would make it by default.\n";
    }
    for warning in &told.warnings {
        out += &format!(
            "  {}: {}\n",
            coloured("Warning", Colour::Yellow),
            plain(warning)
        );
    }
    if !told.inputs.is_empty() {
        let header = [["INPUT", "VALUE", "SAID BY"].map(str::to_owned)];
        let rows = told
            .inputs
            .iter()
            .map(|i| [i.name.clone(), i.value.clone(), i.source.to_string()]);
        out += &format!(
            "\n{}",
            table(&header.into_iter().chain(rows).collect::<Vec<_>>())
        );
    }
    if !told.captures.is_empty() {
        out += &format!("\n  {}\n", told.captures.join("\n  "));
    }
    out + "\n"
}

impl Outcome {
    fn exit(self) -> Exit {
        match self {
            Self::Redirect => Exit::Done,
            Self::Skip => Exit::Skipped,
            Self::Refuse => Exit::Refused,
        }
    }
}

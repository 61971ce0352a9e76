//! Removes what the agent installed, in an order that strands no pod. First ADDs are refused, with a reason. The program goes last,
//! when no sandbox names it any more, because Multus must find it for a DEL.

use std::{io::ErrorKind, path::Path, time::Duration};

use tracing::warn;

use super::{conf::Confs, lock, program, write};
use crate::{
    agent::args::Install,
    multus::{Multus, cache},
    node::{Installed, attachments, paths},
    reason::{Explanation, Reason},
    source::connect,
};

/// The pause between attempts.
const AGAIN: Duration = Duration::from_secs(10);

/// Removes everything. If something must stay for now, that is an error, or with `until_done` it is retried.
pub(in crate::agent) fn uninstall(args: &Install, until_done: bool) -> Result<(), Explanation> {
    let mut reported = String::new();
    loop {
        match attempt(args) {
            Err(error) if until_done => {
                let text = error.to_string();
                if text != reported {
                    warn!(reason = error.reason.as_str(), "{text}");
                    reported = text;
                }
                std::thread::sleep(AGAIN);
            }
            done => return done,
        }
    }
}

/// One attempt.
fn attempt(args: &Install) -> Result<(), Explanation> {
    let running = |cause: &str| {
        Reason::NodeConfigInvalid
            .because(cause)
            .remedy("delete the agent's DaemonSet first")
    };
    if connect().map_or_else(|e| e.kind() == ErrorKind::WouldBlock, |_| true) {
        return Err(running(
            "the agent of this node runs, and would put everything back",
        ));
    }
    let _alone = lock()?.ok_or_else(|| running("an agent is installing"))?;
    let Some(before) = Installed::load()? else {
        return Ok(());
    }; // nothing is here
    write(
        &Installed {
            uninstalled: true,
            ..before.clone()
        },
        &before,
    )?;
    remove_directory(Path::new(paths::API));
    remove_directory(Path::new(paths::PROFILES_SNAPSHOT));
    if let Some(needed) = keep_needed(&before, args) {
        let cause = format!("{needed}: the program stays, answers DEL and refuses ADD");
        return Err(Reason::Uninstalled
            .because(cause)
            .remedy("delete the pods that name the attachment, then run this again"));
    }
    let mut confs = Confs::default();
    for path in &before.confs {
        confs.remove(path)?;
    }
    let (mains, aliases): (Vec<_>, Vec<_>) = before.programs.iter().partition(|(p, _)| is_main(p));
    for (name, digest) in aliases {
        if mains
            .iter()
            .any(|(main, _)| program::is_alias(name, main, digest))
        {
            std::fs::remove_file(name).ok();
        }
    }
    for (main, _) in mains {
        std::fs::remove_file(main).ok();
    }
    std::fs::remove_file(paths::INSTALLED).ok();
    std::fs::remove_file(paths::SETTINGS).ok();
    remove_directory(Path::new(paths::RUN));
    std::fs::remove_dir(paths::LIB).ok(); // unless foreign files are in it
    Ok(())
}

/// Whether this is the program under its own name.
fn is_main(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == program::NAME)
}

/// Keeps what sandboxes of this node need for a DEL, or may need, and returns why; `None` where nothing is needed. An alias that is needed and
/// missing is created again.
fn keep_needed(installed: &Installed, args: &Install) -> Option<String> {
    let multus = Multus::find(args.runtime_conf_dir.as_deref());
    let cache = args.multus_cache_dir.as_ref().unwrap_or(&installed.cache);
    let (types, unread) = cache::types(cache, multus.as_ref());
    if let Some(why) = unread {
        return Some(format!(
            "whether a sandbox of this node still names the program cannot be told (remove what no sandbox needs: {why})"
        ));
    }
    let main = installed.programs.keys().find(|path| is_main(path));
    // another plugin that has its own name back answers DEL itself
    let answers = |path: &Path, digest: &String| {
        let main = main.filter(|_| !is_main(path));
        let alias = main.map(|main| program::also(main, path, Some(digest)));
        !matches!(alias, Some(Ok(None)))
    };
    let named: Vec<_> = installed
        .programs
        .iter()
        .filter_map(|(path, digest)| {
            let name = path.file_name()?.to_str()?;
            let file = types.get(name).filter(|_| answers(path, digest))?;
            Some(format!("{name} ({})", file.display()))
        })
        .collect();
    if !named.is_empty() {
        return Some(format!(
            "sandboxes of this node still name {}",
            named.join(", ")
        ));
    }
    let lives = attachments::all().into_iter().find(|r| r.netns.exists())?;
    Some(format!(
        "pod {}/{} is still redirected",
        lives.namespace, lives.pod
    ))
}

fn remove_directory(path: &Path) {
    std::fs::remove_dir_all(path).ok();
}

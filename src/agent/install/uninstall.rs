//! Removes what an agent has put onto the node, in an order that strands no pod: first ADDs are refused, with a reason; the program goes
//! last, when no sandbox names it any more, because Multus must find it for a DEL.

use std::{io::ErrorKind, path::Path};

use super::{cached, conf, lock, program, write};
use crate::{
    node::{Installed, attachments, paths},
    reason::{Explanation, Reason},
    source::connect,
};

/// All in one go; an error where something must stay for now.
pub(in crate::agent) fn uninstall() -> Result<(), Explanation> {
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
    if let Some(needed) = needed(&before) {
        let cause = format!("{needed}: the program stays, answers DEL and refuses ADD");
        return Err(Reason::Uninstalled
            .because(cause)
            .remedy("delete the pods that name the attachment, then run this again"));
    }
    before.confs.iter().for_each(|path| conf::remove(path));
    for (path, digest) in &before.programs {
        if path.file_name().is_some_and(|name| name == program::NAME)
            || program::is_recorded(path, Some(digest))
        {
            std::fs::remove_file(path).ok();
        }
    }
    std::fs::remove_file(paths::INSTALLED).ok();
    remove_directory(Path::new(paths::RUN));
    std::fs::remove_dir(paths::LIB).ok(); // unless somebody else keeps something there
    Ok(())
}

/// Who still needs the program; what cannot be told may.
fn needed(installed: &Installed) -> Option<String> {
    let (types, unread) = cached::types(&installed.cache);
    if let Some(why) = unread {
        return Some(format!(
            "whether a sandbox of this node still names the program cannot be told (remove what no sandbox needs: {why})"
        ));
    }
    let name = |path: &Path| {
        path.file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default()
            .to_owned()
    };
    let named: Vec<_> = installed
        .programs
        .keys()
        .map(|p| name(p))
        .filter(|name| types.contains(name))
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

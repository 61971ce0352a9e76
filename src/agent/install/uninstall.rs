//! Removes what an agent has put onto the node, in an order that strands no pod: first ADDs are refused, with a reason; the program goes
//! last, when no sandbox names it any more, because Multus must find it for a DEL.

use std::path::Path;

use super::{conf, lock, program, write};
use crate::{
    agent::args::Install,
    node::{Installed, paths},
    reason::{Explanation, Reason},
};

/// All in one go; an error where something must stay for now.
pub(in crate::agent) fn uninstall(args: &Install) -> Result<(), Explanation> {
    let busy = || Reason::NodeConfigInvalid.because("an agent is installing").remedy("delete the agent's DaemonSet first");
    let _alone = lock()?.ok_or_else(busy)?;
    let Some(mut installed) = Installed::load()? else { return Ok(()) }; // nothing is here
    installed.uninstalled = true;
    write(&installed)?;
    remove_directory(Path::new(paths::API));
    remove_directory(Path::new(paths::PROFILES_SNAPSHOT));
    let types = program::types_in_cache(&args.multus_cache_dir);
    let name = |path: &Path| path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    let named: Vec<_> = installed.programs.iter().map(|p| name(p)).filter(|name| types.contains(name)).collect();
    if !named.is_empty() {
        let cause = format!("sandboxes of this node still name {}: the program stays, answers DEL and refuses ADD", named.join(", "));
        return Err(Reason::Uninstalled.because(cause).remedy("delete the pods that name the attachment, then run this again"));
    }
    for path in &installed.confs {
        let is_ours = path.file_stem().and_then(|s| s.to_str()).map(conf::text);
        if is_ours.is_some_and(|ours| std::fs::read_to_string(path).is_ok_and(|there| there == ours)) {
            std::fs::remove_file(path).ok();
        }
    }
    for path in &installed.programs {
        std::fs::remove_file(path).ok();
    }
    std::fs::remove_file(paths::INSTALLED).ok();
    remove_directory(Path::new(paths::RUN));
    std::fs::remove_dir(paths::LIB).ok(); // unless somebody else keeps something there
    Ok(())
}

fn remove_directory(path: &Path) {
    std::fs::remove_dir_all(path).ok();
}

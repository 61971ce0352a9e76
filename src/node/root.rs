use std::path::Path;

use nix::unistd::{chdir, chroot};

use crate::reason::{Explanation, Reason};

/// Makes the node's root this process's: from here on all paths are those that the plugin sees.
pub fn enter(root: &Path) -> Result<(), Explanation> {
    if root == Path::new("/") {
        return Ok(());
    }
    chroot(root)
        .and_then(|()| chdir("/"))
        .map_err(|e| Reason::NodeConfigInvalid.because(format!("--root {}: {e}", root.display())))
}

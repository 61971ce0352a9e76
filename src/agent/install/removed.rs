//! Whether the node's directories are still those that are mounted here.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{agent::args::Install, node::paths};

/// Waits until a directory that is mounted here was removed from the node. If it is created again there, this container still has the old one.
pub(in crate::agent) async fn wait_for_removal(args: &Install) -> PathBuf {
    const LOOK: Duration = Duration::from_secs(2);
    let directories = [
        Path::new(paths::RUN),
        Path::new(paths::LIB),
        &args.cni_bin_dir,
        &args.multus_conf_dir,
    ]
    .map(Path::to_owned);
    loop {
        tokio::time::sleep(LOOK).await;
        let directories = directories.clone();
        let look = move || {
            let is_removed = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|m| m.nlink() == 0);
            directories.into_iter().find(is_removed)
        };
        if let Ok(Some(gone)) = tokio::task::spawn_blocking(look).await {
            return gone;
        }
    }
}

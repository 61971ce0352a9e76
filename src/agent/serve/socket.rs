//! The socket on which the agent answers.

use std::{
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use tokio::net::UnixListener;

use crate::{
    node::{paths, state},
    reason::Explanation,
};

/// The socket, which goes with it.
pub(super) struct AgentSocket {
    pub(super) listener: UnixListener,
    inode: u64,
}

impl AgentSocket {
    /// Takes the place of an earlier agent's, in one step.
    pub(super) fn bind() -> Result<Self, Explanation> {
        let (directory, socket) = (
            state::directory(paths::RUN)?,
            Path::new(paths::AGENT_SOCKET),
        );
        let unfinished = directory.join(format!("agent.sock.{}", std::process::id()));
        let bind = || -> io::Result<Self> {
            std::fs::remove_file(&unfinished).ok();
            let listener = UnixListener::bind(&unfinished)?;
            std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o600))?;
            let inode = std::fs::symlink_metadata(&unfinished)?.ino();
            std::fs::rename(&unfinished, socket)?;
            Ok(Self { listener, inode })
        };
        bind().map_err(|e| state::unusable(socket, &e))
    }

    pub(super) fn is_in_place(&self) -> bool {
        std::fs::symlink_metadata(paths::AGENT_SOCKET).is_ok_and(|m| m.ino() == self.inode)
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        if self.is_in_place() {
            std::fs::remove_file(paths::AGENT_SOCKET).ok();
        }
    }
}

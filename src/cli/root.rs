use std::path::{Path, PathBuf};

use crate::{
    node::{self, paths},
    terminal::CommandFailure,
};

/// Where the agent's container has the node's root.
const IN_CONTAINER: &str = "/host";

/// Where the node's files are.
#[derive(clap::Args)]
pub(super) struct Root {
    /// The node's root directory [default: /, or /host in the agent's container]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl Root {
    /// Makes it this process's own.
    pub(super) fn enter(&self) -> Result<(), CommandFailure> {
        let is_node = |root: &Path| {
            let of = |path: &str| root.join(path.trim_start_matches('/')).exists();
            of(paths::INSTALLED) || of(paths::RUN)
        };
        let (own, container) = (Path::new("/"), Path::new(IN_CONTAINER));
        let root = match &self.root {
            Some(root) => root,
            None if !is_node(own) && is_node(container) => container,
            None => own,
        };
        node::enter(root).map_err(|e| CommandFailure::failed(e.to_string()))
    }
}

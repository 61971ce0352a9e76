use std::{ffi::OsString, path::PathBuf};

use crate::words::words;

words! {
    /// What the runtime asks for (`CNI_COMMAND`).
    #[expect(missing_docs, reason = "the names are the specification's")]
    pub enum CniCommand("CNI command") {
        Add = "ADD",
        Del = "DEL",
        Check = "CHECK",
        Status = "STATUS",
        Gc = "GC",
        Version = "VERSION",
    }
}

/// The CNI variables of the process's environment, untouched. Of the rest only [`search_path`] is ever read.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `CNI_COMMAND`
    pub command: OsString,
    /// `CNI_CONTAINERID`
    pub container_id: Option<OsString>,
    /// `CNI_NETNS`
    pub netns: Option<OsString>,
    /// `CNI_IFNAME`
    pub ifname: Option<OsString>,
    /// `CNI_ARGS`
    pub args: Option<OsString>,
}

impl Environment {
    /// The environment of this process, if it was called as a CNI plugin: `CNI_COMMAND` is set.
    #[expect(clippy::disallowed_methods, reason = "the one home of the environment")]
    pub fn of_this_process() -> Option<Self> {
        let var = std::env::var_os;
        let set = |name| var(name).filter(|v| !v.is_empty());
        Some(Self {
            command: var("CNI_COMMAND")?,
            container_id: set("CNI_CONTAINERID"),
            netns: set("CNI_NETNS"),
            ifname: set("CNI_IFNAME"),
            args: set("CNI_ARGS"),
        })
    }
}

/// Where programs of the node are looked for: the absolute directories of `PATH`, as the runtime gave it, then the usual ones: of thick
/// Multus it is `/bin` alone. Only the iptables backend looks for any.
#[expect(clippy::disallowed_methods, reason = "the one home of the environment")]
pub fn search_path() -> Vec<PathBuf> {
    const USUAL: [&str; 6] = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut out: Vec<PathBuf> = Vec::new();
    for directory in std::env::split_paths(&path)
        .filter(|p| p.is_absolute())
        .chain(USUAL.map(PathBuf::from))
    {
        if !out.contains(&directory) {
            out.push(directory);
        }
    }
    out
}

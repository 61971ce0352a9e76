use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
};

/// What the runtime wants done (`CNI_COMMAND`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's")]
pub enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

impl Command {
    const ALL: [Self; 6] = [
        Self::Add,
        Self::Del,
        Self::Check,
        Self::Status,
        Self::Gc,
        Self::Version,
    ];

    /// As the specification writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }

    /// The verb named by `CNI_COMMAND`, if there is one of that name.
    pub fn parse(text: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|c| text == c.as_str())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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

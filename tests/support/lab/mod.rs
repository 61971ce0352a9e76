//! A node in a folder: a mount namespace, a root with nothing in it but the program, pods with real interfaces, and a world behind them.

mod call;
mod network;
mod programs;

use super::{
    connections::{Listeners, Probe},
    run,
};
use mesh_optin::kernel::{KernelError, Netns};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

pub use self::{
    call::{Call, call_env},
    network::{PodLab, dial, inside, validation_probe},
};

/// Where the world answers.
pub const WORLD_PORTS: [u16; 9] = [22, 53, 80, 443, 3306, 5432, 8080, 15008, 15020];

/// Where the application listens in every pod.
pub const POD_PORTS: [u16; 5] = [22, 53, 3306, 8080, 9090];

/// Where the sidecar does.
pub const PROXY_PORTS: [u16; 7] = [15001, 15006, 15008, 15020, 15021, 15053, 15090];

/// What a pod's network looks like.
#[derive(Debug, Clone, Copy, Default)]
pub struct PodNet {
    pub v4: bool,
    pub v6: bool,
    /// A second interface, net1, with an address of each family.
    pub net1: bool,
}

pub const V4: PodNet = PodNet {
    v4: true,
    v6: false,
    net1: false,
};

pub const V6: PodNet = PodNet {
    v4: false,
    v6: true,
    net1: false,
};

pub const BOTH: PodNet = PodNet {
    v4: true,
    v6: true,
    net1: false,
};

pub const V6_NET1: PodNet = PodNet {
    v4: false,
    v6: true,
    net1: true,
};

pub const V4_NET1: PodNet = PodNet {
    v4: true,
    v6: false,
    net1: true,
};

/// A configuration that says nothing of its own.
pub const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"mesh","type":"mesh-optin"}"#;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

pub const APP: Owner = Owner {
    uid: 1000,
    gid: 1000,
};

pub const PROXY: Owner = Owner {
    uid: 1337,
    gid: 1337,
};

pub const PROXY_UID: Owner = Owner { uid: 1337, gid: 0 };

pub const PROXY_GID: Owner = Owner {
    uid: 1000,
    gid: 1337,
};

/// A node of its own.
pub struct Node {
    root: PathBuf,
}

/// Where a mount namespace of our own has a tmpfs: it ends with the namespace, also when a test is killed.
pub const OWN_DIRECTORY: &str = "/mnt";

/// Runs `work` on a node of its own: in new mount and network namespaces, held by this thread alone.
pub fn on_node<T: Send>(work: impl FnOnce(&Node) -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            new_namespaces();
            run("ip", &["link", "set", "lo", "up"], "");
            work(&Node::new())
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves this thread into mount and network namespaces of its own.
pub fn new_namespaces() {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .expect("tests need root: namespaces of their own");
    mount_("", "/", "", MsFlags::MS_REC | MsFlags::MS_PRIVATE);
}

impl Node {
    fn new() -> Self {
        mount_("tmpfs", OWN_DIRECTORY, "tmpfs", MsFlags::empty());
        let node = Self {
            root: OWN_DIRECTORY.into(),
        };
        for dir in ["proc", "run/netns", "etc/mesh-optin", "manifests"] {
            std::fs::create_dir_all(node.path(dir)).unwrap();
        }
        mount_(
            "/proc",
            node.path("proc").to_str().unwrap(),
            "",
            MsFlags::MS_BIND | MsFlags::MS_REC,
        );
        std::fs::write(node.path("mesh-optin"), "").unwrap();
        mount_(
            env!("CARGO_BIN_EXE_mesh-optin"),
            node.path("mesh-optin").to_str().unwrap(),
            "",
            MsFlags::MS_BIND,
        );
        node.write(
            "etc/mesh-optin/node.yaml",
            "{sources: [manifests], manifests: /manifests, deadline: 60s}",
        );
        node
    }

    /// A path below the node's root.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Writes a file, as root alone may.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Makes objects known to source `manifests`.
    pub fn manifests(&self, objects: &[serde_json::Value]) {
        for (at, object) in objects.iter().enumerate() {
            self.write(&format!("manifests/{at}.json"), &object.to_string());
        }
    }

    /// Installs the credential for source `api`.
    pub fn credential(&self, server: &str, ca: &str, token: &str) {
        for (name, text) in [("server", server), ("ca.crt", ca), ("token", token)] {
            self.write(&format!("var/lib/mesh-optin/api/{name}"), text);
        }
        std::fs::set_permissions(
            self.path("var/lib/mesh-optin/api"),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
    }

    fn netns_path(&self, name: &str) -> PathBuf {
        self.path("run/netns").join(name)
    }
}

pub fn mount_(source: &str, target: &str, kind: &str, flags: MsFlags) {
    let some = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
    mount(
        some(source).as_deref(),
        Path::new(target),
        some(kind).as_deref(),
        flags,
        None::<&str>,
    )
    .unwrap_or_else(|e| panic!("mount {source} on {target}: {e}"));
}

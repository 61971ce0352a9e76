//! A node in a folder: a mount namespace, a root with nothing in it but the program, pods with real interfaces, and a world behind them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use mesh_optin::kernel::{KernelError, Netns};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use super::{
    connections::{Listeners, Probe},
    run,
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
            "{sources: [manifests], manifests: /manifests, deadline: 5s}",
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

    /// The machine's libraries, for its programs.
    pub fn install_libraries(&self) {
        if self.path("lib").exists() {
            return;
        }
        for libraries in ["usr/lib", "usr/lib64"] {
            std::fs::create_dir_all(self.path(libraries)).unwrap();
            mount_(
                &format!("/{libraries}"),
                self.path(libraries).to_str().unwrap(),
                "",
                MsFlags::MS_BIND,
            );
        }
        for directory in ["lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{directory}"), self.path(directory)).unwrap();
        }
    }

    /// Installs iptables of these variants (`nft`, `legacy`), and no other.
    pub fn install_iptables(&self, variants: &[&str]) {
        self.install_libraries();
        std::fs::create_dir_all(self.path("usr/sbin")).unwrap();
        for variant in variants {
            let program = format!("xtables-{variant}-multi");
            std::fs::copy(
                format!("/usr/sbin/{program}"),
                self.path("usr/sbin").join(&program),
            )
            .unwrap();
            for (prefix, verb) in [
                ("iptables", "save"),
                ("iptables", "restore"),
                ("ip6tables", "save"),
                ("ip6tables", "restore"),
            ] {
                let link = self
                    .path("usr/sbin")
                    .join(format!("{prefix}-{variant}-{verb}"));
                std::os::unix::fs::symlink(&program, link).unwrap();
            }
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

    /// Puts a released version of the program in its place while `work` runs; tests/run has built it.
    pub fn with_version<T>(&self, version: &str, work: impl FnOnce() -> T) -> T {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/versions");
        let older = run(script, &["path", version], "");
        let place = self.path("mesh-optin");
        mount_(older.trim(), place.to_str().unwrap(), "", MsFlags::MS_BIND);
        let made = work();
        umount2(&place, MntFlags::MNT_DETACH).unwrap();
        made
    }

    /// The program in its root, with nothing in the environment.
    pub fn program(&self, args: &[&str]) -> Command {
        self.command("/mesh-optin", args)
    }

    /// The same of any program in the node's root.
    #[allow(
        clippy::disallowed_methods,
        reason = "a runtime calls plugins as processes"
    )]
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("/usr/sbin/chroot");
        command
            .arg(&self.root)
            .arg(program)
            .args(args)
            .env_clear()
            .stdin(Stdio::null());
        command
    }

    /// A CNI call as Multus makes it.
    pub fn call(&self, verb: &str, netns: &str, cni_args: &str, config: &str) -> Call {
        self.call_with(
            verb,
            &[
                ("CNI_NETNS", netns),
                ("CNI_ARGS", cni_args),
                ("CNI_CONTAINERID", "c0ffee"),
                ("CNI_IFNAME", "net1"),
            ],
            config.as_bytes(),
        )
    }

    /// A CNI call with exactly this environment.
    pub fn call_with(&self, verb: &str, env: &[(&str, &str)], stdin: &[u8]) -> Call {
        let mut command = self.program(&[]);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", "/opt/cni/bin")
            .envs(env.iter().copied());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // a DEL reads nothing
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), stdin).ok();
        Call::of(child.wait_with_output().unwrap())
    }

    /// Makes the network of a pod and of the world behind it.
    pub fn pod(&self, name: &str, net: PodNet) -> PodLab {
        self.pod_in(self.new_netns(name), name, net)
    }

    /// The same in a network namespace that is there.
    pub fn pod_in(&self, pod: Netns, name: &str, net: PodNet) -> PodLab {
        let world = self.new_netns(&format!("{name}-world"));
        let pod_path = self.netns_path(name);
        let pod_path = pod_path.to_str().unwrap();
        let (mut in_world, mut in_pod) = (
            vec!["link set lo up".to_owned()],
            vec!["link set lo up".to_owned()],
        );
        for address in [
            "10.96.0.10/32",
            "93.184.216.34/32",
            "fd00:96::10/128",
            "2606:2800::1/128",
        ] {
            in_world.push(format!("addr add {address} dev lo"));
        }
        let mut wire = |nic: &str, peer: &str, v4: Option<&str>, v6: Option<&str>| {
            in_world.push(format!(
                "link add {peer} type veth peer name {nic} netns {pod_path}"
            ));
            in_world.push(format!("link set {peer} up"));
            in_pod.push(format!("link set {nic} up"));
            for (net, length) in [
                (v4.map(|n| format!("{n}.")), 24),
                (v6.map(|n| format!("{n}::")), 64),
            ] {
                let Some(net) = net else { continue };
                let nodad = if length == 64 { " nodad" } else { "" };
                in_world.push(format!("addr add {net}1/{length} dev {peer}{nodad}"));
                in_pod.push(format!("addr add {net}5/{length} dev {nic}{nodad}"));
            }
        };
        wire(
            "eth0",
            "w0",
            net.v4.then_some("10.244.0"),
            net.v6.then_some("fd00:244"),
        );
        if net.net1 {
            wire("net1", "w1", Some("172.30.0"), Some("fd00:30"));
        }
        if net.v4 {
            in_pod.push("route add default via 10.244.0.1".into());
        }
        if net.v6 {
            in_pod.push("route add default via fd00:244::1".into());
        }
        ip_batch(&world, &in_world);
        ip_batch(&pod, &in_pod);
        let listeners = [
            Listeners::start(&world, "world", APP, &WORLD_PORTS),
            Listeners::start(&pod, "pod", PROXY, &PROXY_PORTS),
            Listeners::start(&pod, "pod", APP, &POD_PORTS),
        ];
        PodLab {
            netns: format!("/run/netns/{name}"),
            pod,
            world,
            listeners,
        }
    }

    /// A network namespace with a path, for the plugin below `/run/netns`.
    pub fn new_netns(&self, name: &str) -> Netns {
        let path = self.netns_path(name);
        std::fs::write(&path, "").unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                mount_(
                    "/proc/thread-self/ns/net",
                    path.to_str().unwrap(),
                    "",
                    MsFlags::MS_BIND,
                );
            });
            thread.join().unwrap();
        });
        Netns::open(&path).unwrap()
    }

    /// A pod's network and nothing behind it: the path of a network namespace with an eth0.
    pub fn new_netns_with_eth0(&self, name: &str) -> String {
        let lines = "link set lo up\nlink add eth0 type veth peer name peer0\nlink set eth0 up\nlink set peer0 up\naddr add 10.244.0.5/24 dev eth0\n";
        inside(&self.new_netns(name), || run("ip", &["-batch", "-"], lines));
        format!("/run/netns/{name}")
    }

    /// A network namespace of other users, as of a pod with `hostUsers: false`: its user 0 is `first` outside.
    #[allow(
        clippy::disallowed_methods,
        reason = "a user namespace needs a process"
    )]
    pub fn new_netns_of_users(&self, name: &str, first: u32) -> Netns {
        let path = self.netns_path(name);
        std::fs::write(&path, "").unwrap();
        let mut holder = Command::new("unshare")
            .args(["--user", "--net", "--kill-child", "--fork", "cat"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let proc = |file: &str| format!("/proc/{}/{file}", holder.id());
        while std::fs::read_link(proc("ns/net")).unwrap()
            == std::fs::read_link("/proc/thread-self/ns/net").unwrap()
        {
            std::thread::yield_now();
        }
        for map in ["uid_map", "gid_map"] {
            std::fs::write(proc(map), format!("0 {first} 65536")).unwrap();
        }
        mount_(
            &proc("ns/net"),
            path.to_str().unwrap(),
            "",
            MsFlags::MS_BIND,
        );
        drop(holder.stdin.take()); // cat ends
        holder.wait().unwrap();
        Netns::open(&path).unwrap()
    }

    fn netns_path(&self, name: &str) -> PathBuf {
        self.path("run/netns").join(name)
    }
}

/// What a call gave.
#[derive(Debug)]
pub struct Call {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Call {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self {
            code: output.status.code().expect("not killed"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The `msg` and `code` of a CNI error.
    pub fn error(&self) -> (String, u64) {
        assert_eq!(self.code, 1, "{self:?}");
        let error: serde_json::Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        // an independent reader of the protocol understands it as well
        let independent: rscni_types::types::ErrorResult =
            serde_json::from_str(&self.stdout).unwrap();
        assert_eq!(
            serde_json::to_value(independent).unwrap()["msg"],
            error["msg"]
        );
        (
            error["msg"].as_str().unwrap().to_owned(),
            error["code"].as_u64().unwrap(),
        )
    }

    /// The reason that the log gives.
    pub fn logged_reason(&self) -> String {
        let last = self
            .stderr
            .lines()
            .last()
            .unwrap_or_else(|| panic!("no log: {self:?}"));
        serde_json::from_str::<serde_json::Value>(last).unwrap()["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// A pod's namespace and the world behind its interfaces; something listens in both.
pub struct PodLab {
    /// As `CNI_NETNS`.
    pub netns: String,
    pub pod: Netns,
    pub world: Netns,
    listeners: [Listeners; 3],
}

/// Its listeners end soon.
impl Drop for PodLab {
    fn drop(&mut self) {
        self.listeners.iter().for_each(Listeners::stop);
    }
}

impl PodLab {
    /// Where a connection out of the pod lands, such as `world:80` or `pod:15001`.
    pub fn dial_out(&self, owner: Owner, to: &str) -> String {
        dial(&self.pod, owner, to)
    }

    /// Nothing listens any more.
    pub fn stop(&self) {
        self.listeners.iter().for_each(Listeners::stop_and_wait);
    }

    /// Where a connection from the world into the pod lands.
    pub fn dial_in(&self, to: &str) -> String {
        dial(&self.world, APP, to)
    }

    /// What an independent witness sees of the namespace: rules, addresses, policy rules and routes.
    pub fn state(&self) -> String {
        inside(&self.pod, || {
            let ip = |args: &[&str]| run("ip", args, "");
            [
                run("nft", &["list", "ruleset"], ""),
                ip(&["addr"]),
                ip(&["rule"]),
                ip(&["-6", "rule"]),
                ip(&["route", "show", "table", "all"]),
            ]
            .join("----\n")
        })
    }
}

/// Runs `work` in a namespace.
pub fn inside<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> T {
    netns.run::<T, KernelError>(|| Ok(work())).unwrap()
}

fn ip_batch(netns: &Netns, lines: &[String]) {
    inside(netns, || run("ip", &["-batch", "-"], &lines.join("\n")));
}

/// The probe that istio-validation makes: as the proxy, from the loopback address to the passthrough address.
pub fn validation_probe(pod: &PodLab, proxy: Owner, v6: bool) -> String {
    let (from, to) = if v6 {
        ("[::1]:0", "[::6]:15002")
    } else {
        ("127.0.0.1:0", "127.0.0.6:15002")
    };
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    dial_from(&pod.pod, proxy, Some(address(from)), address(to))
}

fn dial(netns: &Netns, owner: Owner, to: &str) -> String {
    dial_from(netns, owner, None, to.parse().unwrap())
}

fn dial_from(netns: &Netns, owner: Owner, from: Option<SocketAddr>, to: SocketAddr) -> String {
    inside(netns, || {
        Probe {
            from,
            ..Probe::tcp(owner, to)
        }
        .landing()
    })
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

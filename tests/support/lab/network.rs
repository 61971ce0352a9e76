//! Network namespaces of pods, and the world behind them.

use super::*;

impl Node {
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
            .replace(" tentative", "") // for a moment
            .lines()
            .filter(|line| !line.starts_with("local fe80:")) // from the end of that moment on
            .collect::<Vec<_>>()
            .join("\n")
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

/// Where a connection out of a namespace lands.
pub fn dial(netns: &Netns, owner: Owner, to: &str) -> String {
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

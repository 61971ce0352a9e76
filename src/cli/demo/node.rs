//! The node: the world behind the pods' interfaces, and the part of Multus.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use nix::sched::CloneFlags;

use super::{
    CommandFailure, plugin,
    pod::{self, APPLICATION, PodProcess},
    sandbox,
    workload::Workload,
};
use crate::{
    deadline::Deadline,
    kernel::{KernelError, Nftables, Wiring},
    plan::nft::Table,
};

/// A host of the world (RFC 5737).
pub(super) const WORLD: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)), 80);
/// The application's uid in its pod.
const APPLICATION_UID: u32 = 1000;
/// The sidecar's.
const SIDECAR_UID: u32 = 1337;

/// This process as a node.
pub(super) struct Node {
    interfaces: Wiring,
}

impl Node {
    /// Moves this process into namespaces and a root of its own, with the world behind them.
    pub(super) fn make() -> Result<Self, CommandFailure> {
        sandbox::end_with_parent()?;
        sandbox::enter_as(0, CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
        sandbox::empty_root()?;
        let interfaces = Wiring::open(patience())?;
        interfaces.switch_on("lo")?;
        interfaces.configure("lo", IpNet::from(WORLD.ip()))?;
        pod::listen(WORLD, "world".into())?;
        Ok(Self { interfaces })
    }

    /// Makes a pod's networks and calls the plugin on each.
    pub(super) fn start(&self, number: u8, workload: &Workload) -> Result<Pod, CommandFailure> {
        let start = |uid, number| {
            let process = PodProcess::start(uid)?;
            let address = wire(&self.interfaces, number, &process)?;
            let outcome = call(workload, &format!("{number}-{uid}"), &process.netns_path())?;
            Ok::<_, CommandFailure>((process, address, outcome))
        };
        let (application, address, (reason, message)) = start(APPLICATION_UID, number * 2)?;
        let (sidecar, _, _) = start(SIDECAR_UID, number * 2 + 1)?;
        Ok(Pod {
            address,
            application,
            sidecar,
            reason,
            message,
        })
    }
}

fn patience() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// A pod on the node: its two processes, each with a network namespace that the plugin was called for.
pub(super) struct Pod {
    address: Ipv4Addr,
    application: PodProcess,
    sidecar: PodProcess,
    /// The plugin's reason and sentence.
    pub(super) reason: String,
    pub(super) message: String,
}

/// Where connections landed.
pub(super) struct Landings {
    pub(super) out_of_application: String,
    pub(super) into_pod: String,
    pub(super) out_of_sidecar: String,
}

impl Pod {
    /// Connects in and out of the pod.
    pub(super) fn connect(&mut self) -> Result<Landings, CommandFailure> {
        Ok(Landings {
            out_of_application: self.application.dial(WORLD)?,
            into_pod: pod::dial(SocketAddr::from((self.address, APPLICATION))),
            out_of_sidecar: self.sidecar.dial(WORLD)?,
        })
    }

    /// The rules that the kernel has for the pod.
    pub(super) fn rules(&self) -> Result<Option<Table>, CommandFailure> {
        Ok(self
            .application
            .netns()?
            .run(|| Nftables::open(patience())?.table())?)
    }
}

/// Gives a pod eth0, and a way to the world.
fn wire(interfaces: &Wiring, number: u8, process: &PodProcess) -> Result<Ipv4Addr, CommandFailure> {
    let (gateway, address) = (
        Ipv4Addr::new(10, 244, number, 1),
        Ipv4Addr::new(10, 244, number, 2),
    );
    let in_subnet = |ip| {
        Ipv4Net::new(ip, 24)
            .map(IpNet::V4)
            .map_err(|e| CommandFailure::failed(e.to_string()))
    };
    let (ours, theirs, name) = (
        in_subnet(gateway)?,
        in_subnet(address)?,
        format!("pod{number}"),
    );
    let netns = process.netns()?;
    interfaces.add_veth(&name, "eth0", &netns)?;
    interfaces.configure(&name, ours)?;
    netns.run::<_, KernelError>(|| {
        let inside = Wiring::open(patience())?;
        inside.switch_on("lo")?;
        inside.configure("eth0", theirs)?;
        inside.default_route(gateway)
    })?;
    Ok(address)
}

/// Calls the plugin as Multus does: ADD with the pod's CNI_ARGS and the attachment's configuration. The reason and the sentence.
fn call(
    workload: &Workload,
    container_id: &str,
    netns: &str,
) -> Result<(String, String), CommandFailure> {
    let failed = |what: String| CommandFailure::failed(format!("calling the plugin: {what}"));
    let metadata = &workload.pod.metadata;
    let args = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
        metadata.namespace, metadata.name, metadata.uid
    );
    let mut child = plugin()
        .envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", container_id),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "net1"),
            ("CNI_ARGS", &args),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(workload.config.as_bytes())
            .map_err(|e| failed(e.to_string()))?;
    }
    let output = child
        .wait_with_output()
        .map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        ));
    }
    // the log's last line says what was done
    let log = String::from_utf8_lossy(&output.stderr);
    let line: serde_json::Value = serde_json::from_str(log.lines().last().unwrap_or_default())
        .map_err(|e| failed(format!("{e}: {log}")))?;
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let sentence = text("message");
    let cause = sentence
        .strip_prefix(&format!("{}: ", text("reason")))
        .unwrap_or(&sentence);
    Ok((
        text("reason"),
        cause.split("; ").next().unwrap_or_default().to_owned(),
    ))
}

impl From<KernelError> for CommandFailure {
    fn from(error: KernelError) -> Self {
        Self::failed(error.to_string())
    }
}

//! Real connections: listeners that say who they are, and probes that tell where they landed.

use std::{
    io::{Read as _, Write as _},
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, Ordering},
        mpsc,
    },
    time::Duration,
};

use mesh_optin::kernel::Netns;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{Gid, Uid, setfsgid, setfsuid},
};
use socket2::{Domain, Socket, Type};

use super::{
    lab::{Owner, inside},
    run,
};

/// What listens in a namespace: one thread, of one owner. It answers every connection and datagram with `<name>:<port>`.
pub struct Listeners {
    stop: Arc<AtomicBool>,
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Listeners {
    /// On each port, at every address the namespace has: TCP, and UDP.
    pub fn start(netns: &Netns, name: &'static str, owner: Owner, ports: &[u16]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (until, ports) = (stop.clone(), ports.to_vec());
        let (end, ended) = mpsc::channel();
        inside(netns, || {
            let (bound, wait) = mpsc::channel();
            std::thread::spawn(move || {
                let addresses = addresses();
                act_as(owner);
                let sockets = Sockets::bind(name, &addresses, &ports);
                bound.send(()).unwrap();
                sockets.serve(&until);
                drop(sockets);
                end.send(()).ok();
            });
            wait.recv().unwrap();
        });
        Self {
            stop,
            ended: Mutex::new(ended),
        }
    }

    /// Soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn stop_and_wait(&self) {
        self.stop();
        self.ended.lock().unwrap().recv().unwrap();
    }
}

struct Sockets {
    name: &'static str,
    sockets: Vec<(Socket, u16)>,
}

impl Sockets {
    fn bind(name: &'static str, addresses: &[IpAddr], ports: &[u16]) -> Self {
        let mut sockets = Vec::new();
        for port in ports {
            let tcp = socket(Domain::IPV6, Type::STREAM);
            tcp.set_reuse_address(true).unwrap();
            tcp.set_ip_transparent_v6(true).unwrap(); // as Envoy's listeners are in TPROXY mode
            tcp.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port)).into())
                .unwrap();
            tcp.listen(64).unwrap();
            sockets.push((tcp, *port));
            // each at its own address, so that an answer comes from where the datagram went
            for address in addresses {
                let udp = socket(
                    if address.is_ipv4() {
                        Domain::IPV4
                    } else {
                        Domain::IPV6
                    },
                    Type::DGRAM,
                );
                // an address that the kernel is still making may be bound then
                if address.is_ipv4() {
                    udp.set_ip_transparent_v4(true)
                } else {
                    udp.set_ip_transparent_v6(true)
                }
                .unwrap();
                udp.bind(&SocketAddr::from((*address, *port)).into())
                    .unwrap();
                sockets.push((udp, *port));
            }
        }
        Self { name, sockets }
    }

    fn serve(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let mut polled: Vec<_> = self
                .sockets
                .iter()
                .map(|(s, _)| PollFd::new(s.as_fd(), PollFlags::POLLIN))
                .collect();
            poll(&mut polled, PollTimeout::from(200u8)).unwrap();
            let ready: Vec<_> = polled.iter().map(|p| p.any() == Some(true)).collect();
            for ((socket, port), _) in self.sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
                let banner = format!("{}:{port}", self.name);
                if socket.r#type().unwrap() == Type::STREAM {
                    if let Ok((stream, _)) = socket.accept() {
                        TcpStream::from(stream).write_all(banner.as_bytes()).ok();
                    }
                } else if let Ok((_, from)) = socket.recv_from(&mut [MaybeUninit::uninit(); 16]) {
                    socket.send_to(banner.as_bytes(), &from).ok();
                }
            }
        }
        // closing does not end a listener that a child of another test has inherited and will close only when it executes its program
        for (socket, _) in &self.sockets {
            socket.shutdown(Shutdown::Both).ok(); // a socket for datagrams is not connected
        }
    }
}

/// All of this thread's namespace.
fn addresses() -> Vec<IpAddr> {
    let list = run("ip", &["-o", "addr"], "");
    let address = |line: &str| {
        line.split_whitespace()
            .nth(3)?
            .split('/')
            .next()?
            .parse()
            .ok()
    };
    list.lines()
        .filter_map(address)
        .filter(|a: &IpAddr| !matches!(a, IpAddr::V6(a) if a.is_unicast_link_local()))
        .collect()
}

/// What this thread does, it does as this user.
fn act_as(owner: Owner) {
    // of this thread only: what nftables and iptables compare is the file's fsuid
    setfsgid(Gid::from_raw(owner.gid));
    setfsuid(Uid::from_raw(owner.uid));
}

/// A source for datagrams that no earlier probe had. For 30 s, conntrack translates a datagram like the last one with the same
/// addresses and ports, whoever sent that.
fn own_port(to: IpAddr) -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let port = 20_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 40_000;
    let unspecified: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    (unspecified, port).into()
}

fn socket(domain: Domain, kind: Type) -> Socket {
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), None).unwrap();
    if domain == Domain::IPV6 {
        socket.set_only_v6(kind != Type::STREAM).unwrap();
    }
    socket
}

/// A connection, or an exchange of datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    pub owner: Owner,
    pub udp: bool,
    /// An address that need not be the namespace's own.
    pub from: Option<SocketAddr>,
    pub mark: u32,
    pub to: SocketAddr,
}

impl Probe {
    pub fn tcp(owner: Owner, to: SocketAddr) -> Self {
        Self {
            owner,
            udp: false,
            from: None,
            mark: 0,
            to,
        }
    }

    /// Where it lands, from this thread's namespace: who answered, or the kind of failure.
    pub fn landing(&self) -> String {
        act_as(self.owner);
        let landing = self.attempt().unwrap_or_else(|e| format!("{:?}", e.kind()));
        act_as(Owner { uid: 0, gid: 0 });
        landing
    }

    fn attempt(&self) -> std::io::Result<String> {
        const PATIENCE: Duration = Duration::from_secs(2);
        // a listener sends its banner at once, but a slow machine may run it late
        const FOR_A_BANNER: Duration = Duration::from_secs(60);
        // an answer to a datagram comes at once or never
        const FOR_AN_ANSWER: Duration = Duration::from_millis(400);
        let kind = if self.udp { Type::DGRAM } else { Type::STREAM };
        let socket = Socket::new(Domain::for_address(self.to), kind, None)?;
        socket.set_read_timeout(Some(if self.udp {
            FOR_AN_ANSWER
        } else {
            FOR_A_BANNER
        }))?;
        if self.mark != 0 {
            socket.set_mark(self.mark)?;
        }
        if let Some(from) = self.from {
            if from.is_ipv4() {
                socket.set_ip_transparent_v4(true)
            } else {
                socket.set_ip_transparent_v6(true)
            }?;
            socket.bind(&from.into())?;
        } else if self.udp {
            socket.bind(&own_port(self.to.ip()).into())?;
        }
        socket.connect_timeout(&self.to.into(), PATIENCE)?;
        let mut banner = [0; 32];
        let length = if self.udp {
            socket.send(b"?")?;
            (&socket).read(&mut banner)?
        } else {
            let (mut stream, mut length) = (TcpStream::from(socket), 0);
            loop {
                match stream.read(&mut banner[length..])? {
                    0 => break length,
                    more => length += more,
                }
            }
        };
        Ok(String::from_utf8_lossy(&banner[..length]).into_owned())
    }
}

//! Creates networks for the demo and the self-test. The plugin itself creates no interface.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd},
};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::{
    Handle, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::link::{InfoData, InfoVeth},
};
use tokio::runtime::{Builder, Runtime};

use super::KernelError;
use crate::deadline::Deadline;

/// Makes interfaces in the network namespace in which it was opened.
pub struct Wiring {
    runtime: Runtime,
    handle: Handle,
    deadline: Deadline,
}

impl Wiring {
    /// Opens a socket in this thread's namespace.
    pub fn open(deadline: Deadline) -> Result<Self, KernelError> {
        let doing = "opening an rtnetlink socket";
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|e| KernelError::of_io(doing, &e))?;
        let entered = runtime.enter();
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|e| KernelError::of_io(doing, &e))?;
        drop(runtime.spawn(connection));
        drop(entered);
        Ok(Self {
            runtime,
            handle,
            deadline,
        })
    }

    fn wait<T>(
        &self,
        doing: String,
        request: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> Result<T, KernelError> {
        match self
            .runtime
            .block_on(async { tokio::time::timeout(self.deadline.left(), request).await })
        {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(rtnetlink::Error::NetlinkError(error))) => {
                Err(KernelError::of_io(doing, &error.to_io()))
            }
            Ok(Err(error)) => Err(KernelError::of_io(doing, &io::Error::other(error))),
            Err(_) => Err(KernelError::Timeout { doing }),
        }
    }

    /// Adds a veth pair: `name` here, `peer` in another network namespace.
    pub fn add_veth(&self, name: &str, peer: &str, netns: impl AsFd) -> Result<(), KernelError> {
        let there = LinkUnspec::new_with_name(peer)
            .setns_by_fd(netns.as_fd().as_raw_fd())
            .build();
        let pair = LinkVeth::new(name, peer)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(there)))
            .build();
        self.wait(
            format!("adding {name}"),
            self.handle.link().add(pair).execute(),
        )
    }

    /// Gives an interface an address, and switches it on.
    pub fn configure(&self, name: &str, address: IpNet) -> Result<(), KernelError> {
        let index = self.switch_on(name)?;
        self.wait(
            format!("adding {address} to {name}"),
            self.handle
                .address()
                .add(index, address.addr(), address.prefix_len())
                .execute(),
        )
    }

    /// Switches an interface on; its index.
    pub fn switch_on(&self, name: &str) -> Result<u32, KernelError> {
        let request = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        let link = self.wait(format!("looking for {name}"), async {
            std::pin::pin!(request).try_next().await
        })?;
        let index = link
            .map(|link| link.header.index)
            .ok_or(KernelError::Malformed {
                doing: "looking for an interface",
                what: format!("there is no {name}"),
            })?;
        let up = LinkUnspec::new_with_index(index).up().build();
        self.wait(
            format!("switching {name} on"),
            self.handle.link().set(up).execute(),
        )?;
        Ok(index)
    }

    /// Adds an IPv4 default route.
    pub fn default_route(&self, via: Ipv4Addr) -> Result<(), KernelError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(via).build();
        self.wait(
            "adding a default route".into(),
            self.handle.route().add(route).execute(),
        )
    }
}

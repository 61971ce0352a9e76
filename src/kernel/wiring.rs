//! What makes a network for the demo's pods; the plugin itself makes no interface.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd},
};

use ipnet::IpNet;
use rtnetlink::{
    LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::link::{InfoData, InfoVeth},
};

use super::{Interfaces, KernelError};

impl Interfaces {
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
        let index = self.index_of(name)?.ok_or(KernelError::Malformed {
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

use std::{collections::BTreeSet, io, net::IpAddr};

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressMessage},
        link::LinkAttribute,
        route::{RouteAttribute, RouteMessage, RouteType},
    },
};
use tokio::runtime::{Builder, Runtime};

use super::KernelError;
use crate::{
    deadline::Deadline,
    mesh::IfName,
    plan::PodNetwork,
    reason::{Explanation, Reason},
};

/// The kernel gives it to `lo` in every namespace.
pub(super) const LO_INDEX: u32 = 1;

/// Interfaces, addresses and routes of this thread's network namespace, by rtnetlink.
pub struct Interfaces {
    runtime: Runtime,
    pub(super) handle: Handle,
    deadline: Deadline,
}

impl Interfaces {
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

    /// What a plan depends on. The holders of default routes are looked up only where they count.
    pub fn pod_network(&self, with_default_routes: bool) -> Result<PodNetwork, Explanation> {
        let index = self
            .index_of("eth0")?
            .ok_or_else(|| Reason::NoPrimaryInterface.because("there is no interface eth0 yet"))?;
        let addresses = self.addresses_of(index)?;
        let global = |a: &IpAddr| match a {
            IpAddr::V4(a) => !a.is_loopback() && !a.is_link_local() && !a.is_multicast(),
            IpAddr::V6(a) => !a.is_loopback() && !a.is_unicast_link_local() && !a.is_multicast(),
        };
        let mut primary = BTreeSet::from([IfName::eth0()]);
        if with_default_routes {
            primary.extend(self.holders_of_default_routes()?);
        }
        let has = |v4: bool| {
            addresses
                .iter()
                .map(IpNet::addr)
                .filter(global)
                .any(|a| a.is_ipv4() == v4)
        };
        Ok(PodNetwork {
            ipv4: has(true),
            ipv6: has(false),
            primary,
        })
    }

    /// The addresses of eth0; none where there is no eth0.
    pub fn addresses_of_eth0(&self) -> Result<Vec<IpAddr>, KernelError> {
        let Some(index) = self.index_of("eth0")? else {
            return Ok(Vec::new());
        };
        Ok(self.addresses_of(index)?.iter().map(IpNet::addr).collect())
    }

    pub(super) fn index_of(&self, name: &str) -> Result<Option<u32>, KernelError> {
        let request = self.handle.link().get().match_name(name).execute();
        match self.wait(format!("looking for {name}"), async {
            std::pin::pin!(request).try_next().await
        }) {
            Ok(link) => Ok(link.map(|l| l.header.index)),
            Err(KernelError::Refused {
                errno: Errno::ENODEV,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn addresses_of(&self, index: u32) -> Result<Vec<IpNet>, KernelError> {
        let request = self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute();
        let messages: Vec<_> = self.wait("listing addresses".into(), request.try_collect())?;
        let of_message = |message: &AddressMessage| {
            let ip = message.attributes.iter().find_map(|a| {
                if let AddressAttribute::Address(ip) = a {
                    Some(*ip)
                } else {
                    None
                }
            });
            IpNet::new(ip?, message.header.prefix_len).ok()
        };
        Ok(messages
            .iter()
            .filter(|m| m.header.index == index)
            .filter_map(of_message)
            .collect())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the packet crate's enums are open"
    )]
    fn holders_of_default_routes(&self) -> Result<BTreeSet<IfName>, KernelError> {
        let mut indexes = BTreeSet::new();
        for route in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let request = self.handle.route().get(route).execute();
            let routes: Vec<RouteMessage> =
                self.wait("listing routes".into(), request.try_collect())?;
            let default = |r: &&RouteMessage| {
                r.header.destination_prefix_length == 0 && r.header.kind == RouteType::Unicast
            };
            for route in routes.iter().filter(default) {
                for attribute in &route.attributes {
                    match attribute {
                        RouteAttribute::Oif(index) => drop(indexes.insert(*index)),
                        RouteAttribute::MultiPath(hops) => {
                            indexes.extend(hops.iter().map(|h| h.interface_index))
                        }
                        _ => {}
                    }
                }
            }
        }
        let links = self.handle.link().get().execute().filter(|l| {
            std::future::ready(
                l.as_ref()
                    .map_or(true, |l| indexes.contains(&l.header.index)),
            )
        });
        let links: Vec<_> = self.wait("listing interfaces".into(), links.try_collect())?;
        let name = |attributes: &[LinkAttribute]| {
            attributes.iter().find_map(|a| {
                if let LinkAttribute::IfName(name) = a {
                    IfName::of_kernel(name)
                } else {
                    None
                }
            })
        };
        links
            .iter()
            .map(|l| {
                name(&l.attributes).ok_or_else(|| KernelError::Malformed {
                    doing: "listing interfaces",
                    what: "an interface has no usable name".into(),
                })
            })
            .collect()
    }

    pub(super) fn wait<T>(
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
}

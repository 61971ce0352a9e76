//! Interfaces, addresses and routes of a network namespace, by rtnetlink. What cannot be read is an error and never left out. A dump
//! that a change interrupted is read again.

mod bypass;
mod policy;
mod primary;
mod read;
mod routing;
pub(super) mod uapi;

use std::{cell::RefCell, net::IpAddr};

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

pub(super) use self::read::Header;
use self::{
    read::{Link, Message, Route},
    uapi::kind,
};
use super::{
    KernelError,
    netlink::{Extent, INCONSISTENT, Netlink, flag, message, nla},
};
use crate::{
    deadline::Deadline,
    plan::{PodNetwork, packet::Family},
    reason::{Explanation, Reason},
};

/// The network of the namespace in which it was opened.
pub struct Network {
    netlink: RefCell<Netlink>,
}

impl Network {
    /// Opens a socket in this thread's namespace.
    pub fn open(deadline: Deadline) -> Result<Self, KernelError> {
        let netlink = Netlink::open(NETLINK_ROUTE, deadline)
            .map_err(|e| KernelError::of_errno("opening an rtnetlink socket", e))?;
        Ok(Self {
            netlink: RefCell::new(netlink),
        })
    }

    /// What a plan depends on.
    pub fn pod_network(&self) -> Result<PodNetwork, Explanation> {
        let index = self
            .index_of("eth0")?
            .ok_or_else(|| Reason::NoPrimaryInterface.because("there is no interface eth0 yet"))?;
        let links = self.links()?;
        let (addresses, defaults) = (self.addresses(None)?, self.default_routes()?);
        primary::pod_network(index, &links, &addresses, &defaults)
    }

    /// The addresses of eth0; none where there is no eth0.
    pub fn addresses_of_eth0(&self) -> Result<Vec<IpAddr>, KernelError> {
        let Some(index) = self.index_of("eth0")? else {
            return Ok(Vec::new());
        };
        let addresses = self.addresses(Some(index))?;
        Ok(addresses
            .iter()
            .map(|(_, address)| address.addr())
            .collect())
    }

    fn index_of(&self, name: &str) -> Result<Option<u32>, KernelError> {
        let mut payload = Header::link().to_vec();
        nla::put(
            &mut payload,
            uapi::link::NAME,
            format!("{name}\0").as_bytes(),
        );
        let mut found = None;
        let answered = self.ask(kind::GET_LINK, flag::ACK, &payload, &mut |message| {
            found = Link::of(message).map(|link| link.index);
            Some(())
        });
        match answered {
            Ok(_) => Ok(found),
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(KernelError::of_errno(format!("looking for {name}"), errno)),
        }
    }

    fn links(&self) -> Result<Vec<Link>, KernelError> {
        self.dump(kind::GET_LINK, &Header::link(), Link::of)
            .map_err(|e| KernelError::of_errno("listing interfaces", e))
    }

    /// Addresses with the index of their interface; of one interface or all.
    pub(super) fn addresses(&self, of: Option<u32>) -> Result<Vec<(u32, IpNet)>, KernelError> {
        let header = Header::address(0, 0, of.unwrap_or_default());
        let all = self
            .dump(kind::GET_ADDRESS, &header, read::address)
            .map_err(|e| KernelError::of_errno("listing addresses", e))?;
        Ok(all
            .into_iter()
            .filter(|(index, _)| of.is_none_or(|of| of == *index))
            .collect())
    }

    /// Default routes of the main table.
    fn default_routes(&self) -> Result<Vec<(Family, Route)>, KernelError> {
        let mut out = Vec::new();
        for family in [Family::Ipv4, Family::Ipv6] {
            let routes = self.routes(family, uapi::TABLE_MAIN)?;
            let defaults = routes
                .into_iter()
                .filter(|r| r.length == 0 && r.kind == uapi::UNICAST);
            out.extend(defaults.map(|route| (family, route)));
        }
        Ok(out)
    }

    /// The routes of a table; none where the kernel does not have the family, or the table.
    pub(super) fn routes(&self, family: Family, table: u32) -> Result<Vec<Route>, KernelError> {
        let mut payload = Header::route(family, table as u8, 0, 0, 0).to_vec();
        nla::put(&mut payload, uapi::route::TABLE, &table.to_ne_bytes());
        match self.dump(kind::GET_ROUTE, &payload, Route::of) {
            // a kernel without the family may answer with another's
            Ok(mut routes) => {
                routes.retain(|r| (r.family, r.table) == (read::number(family), table));
                Ok(routes)
            }
            Err(Errno::ENOENT) => Ok(Vec::new()), // there is no such table
            Err(errno) => self.lacking(family, "routes", errno),
        }
    }

    /// Nothing where the kernel does not have IPv6.
    pub(super) fn lacking<T>(
        &self,
        family: Family,
        what: &str,
        errno: Errno,
    ) -> Result<Vec<T>, KernelError> {
        let error = KernelError::of_errno(format!("listing {what} of {family}"), errno);
        let has_no_ipv6 =
            family == Family::Ipv6 && matches!(error, KernelError::Unsupported { .. });
        if has_no_ipv6 {
            Ok(Vec::new())
        } else {
            Err(error)
        }
    }

    /// All objects of a kind. E2BIG where there are more than are ever read.
    pub(super) fn dump<T>(
        &self,
        kind: u16,
        payload: &[u8],
        read: impl Fn(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Errno> {
        const ATTEMPTS: u32 = 3; // another change in between makes a dump inconsistent
        for _ in 0..ATTEMPTS {
            let mut all = Vec::new();
            let each = &mut |message: Message<'_>| {
                all.push(read(message)?);
                Some(())
            };
            match self.ask(kind, flag::DUMP, payload, each) {
                Ok(Extent::Whole) => return Ok(all),
                Ok(Extent::Cut) => return Err(Errno::E2BIG),
                Err(INCONSISTENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Adds or removes an object.
    pub(super) fn change(&self, kind: u16, flags: u16, payload: &[u8]) -> Result<(), Errno> {
        self.ask(kind, flag::ACK | flags, payload, &mut |_| Some(()))
            .map(|_| ())
    }

    /// A question and its answer's messages; EBADMSG where one cannot be read.
    fn ask(
        &self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        each: &mut dyn FnMut(Message<'_>) -> Option<()>,
    ) -> Result<Extent, Errno> {
        let mut netlink = self.netlink.borrow_mut();
        let sequence = netlink.next_sequence();
        let bytes = message(kind, flags, sequence, payload);
        let mut is_read = true;
        let extent = netlink.request(&bytes, &mut |message| {
            is_read &= each(Message::of(message)).is_some();
        })?;
        if is_read {
            Ok(extent)
        } else {
            Err(Errno::EBADMSG)
        }
    }
}

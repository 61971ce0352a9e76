//! Finds interfaces whose incoming packets never reach netfilter: ports of a bridge, and interfaces whose packets traffic control
//! sends elsewhere, as sandboxed runtimes do for their virtual machine.

use nix::errno::Errno;

use super::{
    KernelError, Network,
    read::Message,
    uapi::{kind, tc},
};
use crate::kernel::{
    Bypass,
    netlink::nla::{Attribute, Attributes},
};

impl Network {
    /// Those of these interfaces, by index, whose packets bypass the rules.
    pub(super) fn bypasses_of(&self, of: &[u32]) -> Result<Vec<(u32, Bypass)>, KernelError> {
        let links = self.links()?;
        let mut out = Vec::new();
        for link in links.iter().filter(|link| of.contains(&link.index)) {
            if link.is_in_bridge {
                out.push((link.index, Bypass::Bridge));
            } else if self.has_redirecting_filter(link.index)? {
                out.push((link.index, Bypass::TrafficControl));
            }
        }
        Ok(out)
    }

    fn has_redirecting_filter(&self, index: u32) -> Result<bool, KernelError> {
        let mut header = [0; 20]; // struct tcmsg
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header[12..16].copy_from_slice(&tc::INGRESS.to_ne_bytes());
        match self.dump(kind::GET_FILTER, &header, |filter| Some(redirects(filter))) {
            Ok(filters) => Ok(filters.contains(&true)),
            Err(Errno::EOPNOTSUPP) => Ok(false), // the kernel has no filters
            Err(errno) => Err(KernelError::of_errno("listing tc filters", errno)),
        }
    }
}

/// Whether a filter has an action that takes packets away: `mirred` that redirects. One that copies them lets them go on.
fn redirects(filter: Message<'_>) -> bool {
    let Some((_, attributes)) = filter.parts::<20>(kind::NEW_FILTER) else {
        return false;
    };
    let kind = attributes.text(tc::KIND);
    let actions = tc::ACTIONS.iter().find(|(of, _)| kind == Some(of));
    let options = attributes.nested(tc::OPTIONS);
    let actions = options
        .zip(actions)
        .and_then(|(options, (_, at))| options.nested(*at));
    actions.is_some_and(|mut actions| actions.any(is_redirection))
}

fn is_redirection(action: Attribute<'_>) -> bool {
    let action = action.nested();
    let parameters = |options: Attributes<'_>| {
        let parameters = options.find(tc::MIRRED_PARAMETERS)?.payload;
        let what = parameters.get(20..24)?; // after struct tc_gen
        Some(i32::from_ne_bytes(what.try_into().ok()?))
    };
    action.text(tc::ACTION_KIND) == Some("mirred")
        && action
            .nested(tc::ACTION_OPTIONS)
            .and_then(parameters)
            .is_some_and(|what| tc::REDIRECTIONS.contains(&what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::nla::put;

    /// A filter as Linux 6.1 describes it: of this kind, with these actions and what each does with the packet.
    fn filter(kind: &str, at: u16, actions: &[(&str, i32)]) -> Vec<u8> {
        let attribute = |kind, payload: &[u8]| {
            let mut bytes = Vec::new();
            put(&mut bytes, kind, payload);
            bytes
        };
        let mut all = Vec::new();
        for (number, (name, does)) in (1..).zip(actions) {
            let parameters = [&[0; 20][..], &does.to_ne_bytes(), &[0; 4]].concat();
            let options = attribute(tc::MIRRED_PARAMETERS, &parameters);
            let mut action = attribute(tc::ACTION_KIND, format!("{name}\0").as_bytes());
            put(&mut action, tc::ACTION_OPTIONS, &options);
            put(&mut all, number, &action);
        }
        let mut message = vec![0; 20];
        put(&mut message, tc::KIND, format!("{kind}\0").as_bytes());
        put(&mut message, tc::OPTIONS, &attribute(at, &all));
        message
    }

    #[test]
    fn a_filter_that_redirects_packets_is_told_from_one_that_copies_them_or_lets_them_pass() {
        let redirects = |message: &[u8]| redirects(Message::new(kind::NEW_FILTER, message));
        for (of, at) in tc::ACTIONS {
            assert!(redirects(&filter(of, at, &[("mirred", 1)])), "{of}");
            assert!(redirects(&filter(of, at, &[("gact", 0), ("mirred", 3)])));
            assert!(!redirects(&filter(of, at, &[("mirred", 2)])), "{of} copies");
            assert!(!redirects(&filter(of, at, &[("gact", 1)])), "{of}");
            assert!(!redirects(&filter(of, at + 1, &[("mirred", 1)])), "{of}");
        }
        assert!(!redirects(&filter("other", 2, &[("mirred", 1)])));
        assert!(!redirects(&filter("u32", 7, &[("mirred", 1)])[..40]));
    }
}

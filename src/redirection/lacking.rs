//! What a node cannot do.

use crate::{mesh::InterceptionMode, profile::BackendPolicy, reason::Explanation};

/// What a pod may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) backend: BackendPolicy,
    pub(super) mode: InterceptionMode,
    /// Beside IPv4.
    pub(super) ipv6: bool,
}

/// What cannot be done on this node. Empty: everything can.
#[derive(Debug, Default)]
pub struct Unsupported(pub(super) Vec<(Kind, Explanation)>);

impl Unsupported {
    /// Why pods that ask for nothing special cannot be redirected by this backend.
    fn plain(&self, backend: BackendPolicy) -> Option<&Explanation> {
        let plain = Kind {
            backend,
            mode: InterceptionMode::Redirect,
            ipv6: false,
        };
        let mut all = self.0.iter();
        all.find(|(kind, _)| *kind == plain).map(|(_, why)| why)
    }

    /// What carries rules out where a profile says Auto; `None` where nothing can.
    pub fn automatic(&self) -> Option<BackendPolicy> {
        [BackendPolicy::Nftables, BackendPolicy::Iptables]
            .into_iter()
            .find(|backend| self.plain(*backend).is_none())
    }

    /// Why no pod could be redirected, whatever its profile says.
    pub fn everything(&self) -> Option<&Explanation> {
        let why = self.plain(BackendPolicy::Nftables)?;
        self.plain(BackendPolicy::Iptables).map(|_| why)
    }

    /// What some pods could not have, in words; `None` where all can have all.
    pub fn something(&self) -> Option<String> {
        let each = |(kind, why): &(Kind, Explanation)| {
            let Kind {
                backend,
                mode,
                ipv6,
            } = kind;
            let of = if *ipv6 { " of IPv6" } else { "" };
            format!("no {mode}{of} by {backend}: {}", why.cause)
        };
        let all: Vec<_> = self.0.iter().map(each).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[test]
    fn what_some_pods_lack_is_told_apart_from_what_all_do() {
        let lacking = |all: &[(BackendPolicy, InterceptionMode, bool)]| {
            let each = |(backend, mode, ipv6): &(BackendPolicy, InterceptionMode, bool)| {
                let kind = Kind {
                    backend: *backend,
                    mode: *mode,
                    ipv6: *ipv6,
                };
                (kind, Reason::KernelUnsupported.because("no module"))
            };
            Unsupported(all.iter().map(each).collect())
        };
        let (redirect, tproxy) = (InterceptionMode::Redirect, InterceptionMode::Tproxy);
        let none = lacking(&[]);
        assert!(none.everything().is_none() && none.something().is_none());
        assert_eq!(none.automatic(), Some(BackendPolicy::Nftables));
        let some = lacking(&[
            (BackendPolicy::Nftables, tproxy, false),
            (BackendPolicy::Nftables, redirect, true),
            (BackendPolicy::Iptables, redirect, false),
        ]);
        assert!(some.everything().is_none());
        assert_eq!(some.automatic(), Some(BackendPolicy::Nftables));
        assert_eq!(
            some.something().unwrap(),
            "no TPROXY by Nftables: no module; no REDIRECT of IPv6 by Nftables: no module; no REDIRECT by Iptables: no module"
        );
        let all = lacking(&[
            (BackendPolicy::Nftables, redirect, false),
            (BackendPolicy::Iptables, redirect, false),
        ]);
        assert!(all.everything().is_some() && all.automatic().is_none());
    }
}

use nix::errno::Errno;

use crate::{
    plan::packet::Family,
    reason::{Explanation, Reason},
};

/// The kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// It lacks what is needed.
    #[error("{doing}: {errno}")]
    Unsupported {
        /// What was being done, to what.
        doing: String,
        /// What came back.
        errno: Errno,
    },
    /// It is older than what this program needs, whatever the back end.
    #[error("{doing}: {errno}")]
    TooOld {
        /// What was being done.
        doing: &'static str,
        /// What came back.
        errno: Errno,
    },
    /// nf_tables is not there, or not all of it that a plan needs: iptables may do instead.
    #[error("{doing}: {errno}")]
    NoNfTables {
        /// What was being done, to what.
        doing: String,
        /// What came back.
        errno: Errno,
    },
    /// It said no.
    #[error("{doing}: {errno}")]
    Refused {
        /// What was being done, to what.
        doing: String,
        /// What came back.
        errno: Errno,
    },
    /// Somebody else was faster: there is such a table by now, or something changed since it was read.
    #[error("somebody else changed the tables meanwhile")]
    Overtaken,
    /// Somebody else changes it while it is read.
    #[error("reading the table: somebody else keeps changing it")]
    Changing,
    /// No program can carry the iptables form of a family.
    #[error("no iptables for {family} works on this node: {why}")]
    NoIptables {
        /// For which family.
        family: Family,
        /// What was looked for, where, and what came of it.
        why: String,
    },
    /// A program failed.
    #[error("{doing}: {what}")]
    Tool {
        /// The program, and the line of its input that it failed at.
        doing: String,
        /// What it said.
        what: String,
        /// The kernel, or the program itself, lacks what is needed.
        lacking: bool,
    },
    /// It did not answer in time.
    #[error("{doing}: no answer before the deadline")]
    Timeout {
        /// What was being done.
        doing: String,
    },
    /// It answered something that we do not understand.
    #[error("{doing}: {what}")]
    Malformed {
        /// What was being done.
        doing: &'static str,
        /// What was wrong with the answer.
        what: String,
    },
}

impl KernelError {
    /// Sorts what the kernel returned. ENOENT is what nf_tables says of an expression whose module is missing.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other error is a refusal"
    )]
    pub(super) fn of_errno(doing: impl Into<String>, errno: Errno) -> Self {
        let doing = doing.into();
        match errno {
            Errno::EPROTONOSUPPORT
            | Errno::EOPNOTSUPP
            | Errno::EAFNOSUPPORT
            | Errno::ENOENT
            | Errno::ENOPROTOOPT => Self::Unsupported { doing, errno },
            Errno::ETIMEDOUT => Self::Timeout { doing }, // our own word for a deadline that passed
            errno => Self::Refused { doing, errno },
        }
    }

    /// The same for what a socket or a transaction of nf_tables returned. A refusal (EPERM) is no lack.
    pub(super) fn of_nf_tables(doing: impl Into<String>, errno: Errno) -> Self {
        let doing = doing.into();
        if matches!(
            errno,
            Errno::EPROTONOSUPPORT | Errno::ENOENT | Errno::EOPNOTSUPP
        ) {
            return Self::NoNfTables { doing, errno };
        }
        Self::of_errno(doing, errno)
    }

    /// The same for an I/O error of a system call.
    pub(super) fn of_io(doing: impl Into<String>, error: &std::io::Error) -> Self {
        Self::of_errno(
            doing,
            error
                .raw_os_error()
                .map_or(Errno::UnknownErrno, Errno::from_raw),
        )
    }
}

impl From<KernelError> for Explanation {
    fn from(error: KernelError) -> Self {
        let reason = match &error {
            KernelError::Unsupported { .. }
            | KernelError::TooOld { .. }
            | KernelError::NoNfTables { .. }
            | KernelError::Tool { lacking: true, .. } => Reason::KernelUnsupported,
            KernelError::NoIptables { .. } => Reason::IptablesMissing,
            KernelError::Refused { .. }
            | KernelError::Overtaken
            | KernelError::Changing
            | KernelError::Malformed { .. }
            | KernelError::Tool { lacking: false, .. } => Reason::KernelRefused,
            KernelError::Timeout { .. } => Reason::DeadlineExceeded,
        };
        let explanation = reason.because(error.to_string());
        if matches!(error, KernelError::TooOld { .. }) {
            return explanation.remedy("run Linux 5.14 or later on the node");
        }
        match module(&explanation.cause).filter(|_| reason == Reason::KernelUnsupported) {
            Some(module) => explanation.remedy(format!(
                "load the kernel module {module}, or run a kernel that has it"
            )),
            None if matches!(error, KernelError::Tool { .. }) => {
                explanation.remedy("load the kernel module that is missing")
            }
            None => explanation,
        }
    }
}

/// The kernel module without which a rule (as nft or iptables write it) cannot be.
fn module(cause: &str) -> Option<&'static str> {
    const MODULES: [(&str, &str); 13] = [
        ("tproxy ", "nft_tproxy"),
        ("redirect to", "nft_redir"),
        ("ct zone set", "nft_ct (with CONFIG_NF_CONNTRACK_ZONES)"),
        ("ct state", "nft_ct"),
        ("ct mark", "nft_ct"),
        ("TPROXY", "xt_TPROXY"),
        ("CT --zone", "xt_CT (with CONFIG_NF_CONNTRACK_ZONES)"),
        ("CONNMARK", "xt_connmark"),
        ("connmark", "xt_connmark"),
        ("multiport", "xt_multiport"),
        ("owner", "xt_owner"),
        ("conntrack", "xt_conntrack"),
        ("REDIRECT", "xt_REDIRECT"),
    ];
    MODULES
        .into_iter()
        .find(|(part, _)| cause.contains(part))
        .map(|(_, module)| module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named_and_only_that_falls_back() {
        let of = |errno| {
            KernelError::of_nf_tables(
                "adding to chain inbound the rule \"tproxy ip to :15006\"",
                errno,
            )
        };
        let lacking: Explanation = of(Errno::ENOENT).into();
        assert_eq!(lacking.reason, Reason::KernelUnsupported);
        assert!(
            lacking
                .to_string()
                .contains("load the kernel module nft_tproxy"),
            "{lacking}"
        );
        for errno in [Errno::EPROTONOSUPPORT, Errno::ENOENT, Errno::EOPNOTSUPP] {
            assert!(
                matches!(of(errno), KernelError::NoNfTables { .. }),
                "{errno}"
            );
        }
        for errno in [
            Errno::EPERM,
            Errno::EINVAL,
            Errno::EAGAIN,
            Errno::EAFNOSUPPORT,
            Errno::ENOMEM,
        ] {
            assert!(
                !matches!(of(errno), KernelError::NoNfTables { .. }),
                "{errno}"
            );
        }
    }
}

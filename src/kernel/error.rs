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
    /// It is older than what this program needs, whatever the backend.
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
        /// The kernel module that what failed needs, where it is one.
        module: Option<&'static str>,
    },
    /// It said no.
    #[error("{doing}: {errno}")]
    Refused {
        /// What was being done, to what.
        doing: String,
        /// What came back.
        errno: Errno,
    },
    /// Another program was faster: there is such a table by now, or something changed since it was read.
    #[error("another program changed the tables meanwhile")]
    Conflict,
    /// Another program changes it while it is read.
    #[error("reading the table: another program keeps changing it")]
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
        lacking: Option<Lacking>,
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

/// What is needed and is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacking {
    /// A kernel module.
    Module(&'static str),
    /// Which one cannot be told.
    Something,
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

    /// The same for what a socket or a transaction of nf_tables returned. A refusal (EPERM) is no lack. `module`: what the rule that
    /// failed needs, if it was one.
    pub(super) fn of_nf_tables(
        doing: impl Into<String>,
        errno: Errno,
        module: Option<&'static str>,
    ) -> Self {
        let doing = doing.into();
        if matches!(
            errno,
            Errno::EPROTONOSUPPORT | Errno::ENOENT | Errno::EOPNOTSUPP
        ) {
            return Self::NoNfTables {
                doing,
                errno,
                module,
            };
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
        fn load(module: &str) -> String {
            format!("load the kernel module {module}, or run a kernel that has it")
        }
        let (reason, remedy) = match &error {
            KernelError::TooOld { .. } => (
                Reason::KernelUnsupported,
                Some("run Linux 5.14 or later on the node".to_owned()),
            ),
            KernelError::NoNfTables { module, .. } => (Reason::KernelUnsupported, module.map(load)),
            KernelError::Tool {
                lacking: Some(Lacking::Module(module)),
                ..
            } => (Reason::KernelUnsupported, Some(load(module))),
            KernelError::Tool {
                lacking: Some(Lacking::Something),
                ..
            } => (
                Reason::KernelUnsupported,
                Some("load the kernel module that is missing".to_owned()),
            ),
            KernelError::Tool { lacking: None, .. } => (Reason::KernelRefused, None),
            KernelError::Unsupported { .. } => (Reason::KernelUnsupported, None),
            KernelError::NoIptables { .. } => (Reason::IptablesMissing, None),
            KernelError::Refused { .. }
            | KernelError::Conflict
            | KernelError::Changing
            | KernelError::Malformed { .. } => (Reason::KernelRefused, None),
            KernelError::Timeout { .. } => (Reason::DeadlineExceeded, None),
        };
        let explanation = reason.because(error.to_string());
        match remedy {
            Some(remedy) => explanation.remedy(remedy),
            None => explanation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named_and_only_that_falls_back() {
        let of = |errno| {
            KernelError::of_nf_tables("adding to chain inbound a rule", errno, Some("nft_tproxy"))
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

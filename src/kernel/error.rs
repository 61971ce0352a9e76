use nix::errno::Errno;

use crate::reason::{Explanation, Reason};

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
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other error is a refusal")]
    pub(super) fn of_errno(doing: impl Into<String>, errno: Errno) -> Self {
        let doing = doing.into();
        match errno {
            Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::ENOENT | Errno::ENOPROTOOPT => {
                Self::Unsupported { doing, errno }
            }
            Errno::EAGAIN => Self::Timeout { doing },
            errno => Self::Refused { doing, errno },
        }
    }

    /// The same for an I/O error of a system call.
    pub(super) fn of_io(doing: impl Into<String>, error: &std::io::Error) -> Self {
        Self::of_errno(doing, error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
    }
}

impl From<KernelError> for Explanation {
    fn from(error: KernelError) -> Self {
        let reason = match &error {
            KernelError::Unsupported { .. } => Reason::KernelUnsupported,
            KernelError::Refused { .. } | KernelError::Overtaken | KernelError::Changing | KernelError::Malformed { .. } => {
                Reason::KernelRefused
            }
            KernelError::Timeout { .. } => Reason::DeadlineExceeded,
        };
        reason.because(error.to_string())
    }
}

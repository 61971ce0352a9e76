use crate::reason::{Explanation, Reason};

/// A call that does not follow the CNI specification, with the specification's error code.
#[derive(Debug, thiserror::Error)]
#[error("{explanation}")]
pub struct RequestError {
    /// 1 incompatible version, 4 environment, 6 undecodable content, 7 a configuration that is too large.
    pub code: u32,
    /// What was wrong.
    pub explanation: Explanation,
}

impl RequestError {
    pub(super) fn new(code: u32, cause: impl Into<String>) -> Self {
        Self {
            code,
            explanation: Reason::InvalidRequest.because(cause),
        }
    }

    pub(super) fn environment(cause: impl Into<String>) -> Self {
        Self::new(4, cause)
    }

    pub(super) fn args(cause: impl std::fmt::Display) -> Self {
        Self::environment(format!("CNI_ARGS: {cause}"))
    }

    pub(super) fn undecodable(cause: impl Into<String>) -> Self {
        Self::new(6, cause)
    }
}

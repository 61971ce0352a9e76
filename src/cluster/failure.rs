use std::{error::Error as _, fmt, time::Duration};

use kube::core::Status;

use crate::reason::{Explanation, Reason};

/// How long a pod that was just created may be missing at the API server that is asked.
const MAY_BE_NEW: Duration = Duration::from_secs(2);

/// Why a GET failed.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The API server refused it, with this status, and asks to wait this long.
    Status {
        code: u16,
        message: String,
        retry_after: Option<Duration>,
    },
    /// The connection failed before there was a response.
    Connection(String),
    /// The server's certificate is not trusted.
    Certificate(String),
    /// The response cannot be read.
    Answer(String),
    /// There was no response by the deadline.
    Timeout,
}

/// Who can repair a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concern {
    /// The owner of our credential and its rights.
    Credential,
    /// The operator of the API server.
    Server,
    /// The owner of the object, which does not exist.
    Object,
}

impl Failure {
    /// Who can repair it.
    pub(crate) fn concern(&self) -> Concern {
        match self {
            Self::Status {
                code: 401 | 403, ..
            }
            | Self::Certificate(_) => Concern::Credential,
            Self::Status { code: 404, .. } => Concern::Object,
            Self::Status { .. } | Self::Connection(_) | Self::Answer(_) | Self::Timeout => {
                Concern::Server
            }
        }
    }

    /// How long to wait before asking again, after so much time; `None` where it does not pass by itself. A pod that is not found may be too
    /// new for this API server.
    pub(crate) fn again(&self, waited: Duration) -> Option<Duration> {
        let can_pass = match self {
            Self::Status { code: 404, .. } => waited < MAY_BE_NEW,
            Self::Status { code, .. } => *code == 429 || *code >= 500,
            Self::Connection(_) => true,
            Self::Certificate(_) | Self::Answer(_) | Self::Timeout => false,
        };
        can_pass.then(|| self.retry_after().unwrap_or_default())
    }

    /// How long the API server asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Connection(_) | Self::Certificate(_) | Self::Answer(_) | Self::Timeout => None,
        }
    }

    /// Explains why a look-up of a pod (`namespace/name`) at a server (`https://...`) failed.
    pub(crate) fn explain(
        self,
        server: &str,
        ca: &str,
        pod: &str,
        waited: Duration,
    ) -> Explanation {
        match self {
            Self::Status { code: 401, .. } => {
                Reason::ApiUnauthorized.because(format!("{server} does not accept the token"))
            }
            Self::Status {
                code: 403, message, ..
            } => Reason::ApiForbidden.because(forbidden(&message)),
            Self::Status {
                code: 404, message, ..
            } => Reason::PodNotFound.because(format!("pod {pod} does not exist: {message}")),
            Self::Status { code, message, .. } => {
                Reason::ApiUnreachable.because(format!("{server} answers {code}: {message}"))
            }
            Self::Connection(what) => Reason::ApiUnreachable.because(format!("{server}: {what}")),
            Self::Certificate(what) => Reason::ApiUnauthorized.because(format!(
                "the certificate of {server} does not verify against {ca}: {what}"
            )),
            Self::Answer(what) => Reason::ApiUnreachable
                .because(format!("the answer of {server} cannot be read: {what}")),
            Self::Timeout => Reason::DeadlineExceeded
                .because(format!("{server} did not answer within {waited:?}")),
        }
    }
}

/// How long the API server asks to wait before the next request.
fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { code, message, .. } => write!(f, "the answer is {code}: {message}"),
            Self::Connection(what) => f.write_str(what),
            Self::Certificate(what) => write!(f, "the certificate does not verify: {what}"),
            Self::Answer(what) => write!(f, "the answer cannot be read: {what}"),
            Self::Timeout => f.write_str("there was no answer in time"),
        }
    }
}

/// The part of the API server's message that names the account and the verb: the rest would push the remedy out of the pod's Event.
fn forbidden(message: &str) -> &str {
    let message = message
        .split_once(" is forbidden: ")
        .map_or(message, |(_, why)| why);
    message
        .split_once(" in API group ")
        .map_or(message, |(why, _)| why)
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        if let kube::Error::Api(status) = &error {
            return Self::Status {
                code: status.code,
                message: status.message.clone(),
                retry_after: retry_after(status),
            };
        }
        if let kube::Error::SerdeError(error) = &error {
            return Self::Answer(error.to_string());
        }
        // the innermost cause says most
        let (mut cause, mut innermost) = (error.source(), error.to_string());
        while let Some(inner) = cause {
            if let Some(rustls::Error::InvalidCertificate(why)) = tls_error(inner) {
                return Self::Certificate(format!("{why:?}"));
            }
            innermost = inner.to_string();
            cause = inner.source();
        }
        Self::Connection(innermost)
    }
}

/// An I/O error's source is its content's source, so its content has to be looked at as well.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    error
        .downcast_ref()
        .or_else(|| tls_error(error.downcast_ref::<std::io::Error>()?.get_ref()?))
}

#[cfg(test)]
mod tests {
    use super::{Concern, Failure};

    #[test]
    fn a_failure_concerns_the_credential_the_server_or_the_object() {
        let status = |code| Failure::Status {
            code,
            message: String::new(),
            retry_after: None,
        };
        for (failure, concern) in [
            (status(401), Concern::Credential),
            (status(403), Concern::Credential),
            (Failure::Certificate(String::new()), Concern::Credential),
            (status(404), Concern::Object),
            (status(429), Concern::Server),
            (status(500), Concern::Server),
            (Failure::Timeout, Concern::Server),
        ] {
            assert_eq!(failure.concern(), concern, "{failure:?}");
        }
    }

    #[test]
    fn a_forbidden_request_names_the_account_and_what_it_may_not_do() {
        let message = r#"pods "web" is forbidden: User "system:serviceaccount:m:n" cannot get resource "pods" in API group "" in the namespace "a""#;
        assert_eq!(
            super::forbidden(message),
            r#"User "system:serviceaccount:m:n" cannot get resource "pods""#
        );
        assert_eq!(super::forbidden("no"), "no");
    }
}

use std::{error::Error as _, time::Duration};

use super::MAY_BE_NEW;
use crate::reason::{Explanation, Reason};

/// Why a GET failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// By the API server, with this status.
    Status { code: u16, message: String },
    /// Before it could answer.
    Connection(String),
    /// Its certificate is not one that we believe.
    Certificate(String),
    /// It answered what we cannot read.
    Answer(String),
    /// Not by the deadline.
    Timeout,
}

impl Failure {
    /// Whether it can pass by itself. A pod that is not found may be too new for this API server.
    pub(crate) fn can_pass(&self, waited: Duration) -> bool {
        match self {
            Self::Status { code: 404, .. } => waited < MAY_BE_NEW,
            Self::Status { code, .. } => *code == 429 || *code >= 500,
            Self::Connection(_) => true,
            Self::Certificate(_) | Self::Answer(_) | Self::Timeout => false,
        }
    }

    /// What a look-up of a pod (`namespace/name`) at a server (`https://...`) failed with.
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
            Self::Status { code: 403, message } => {
                Reason::ApiForbidden.because(forbidden(&message))
            }
            Self::Status { code: 404, message } => {
                Reason::PodNotFound.because(format!("pod {pod} does not exist: {message}"))
            }
            Self::Status { code, message } => {
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

/// Who may not do what, of the API server's message: the rest of it would push the remedy out of the Pod's event.
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
    #[test]
    fn of_a_refusal_who_may_not_do_what_is_told() {
        let message = r#"pods "web" is forbidden: User "system:serviceaccount:m:n" cannot get resource "pods" in API group "" in the namespace "a""#;
        assert_eq!(
            super::forbidden(message),
            r#"User "system:serviceaccount:m:n" cannot get resource "pods""#
        );
        assert_eq!(super::forbidden("no"), "no");
    }
}

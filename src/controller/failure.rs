//! How requests go wrong.

use std::time::Duration;

/// For one request.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a write went wrong.
#[derive(Debug)]
pub(super) enum Failure {
    /// This object was refused; others may not be.
    Refused { is_conflict: bool, why: String },
    /// No write is worth trying now.
    Unavailable(String),
}

/// The answer to a request, if it comes in time.
pub(super) async fn within<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, request).await {
        Err(_) => Err(Failure::Unavailable("no answer in time".into())),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failure(error)),
    }
}

/// A webhook that fails for one namespace answers 500: only what no request survives stops the others.
fn failure(error: kube::Error) -> Failure {
    let refused = |is_conflict, why| Failure::Refused { is_conflict, why };
    if let kube::Error::Api(status) = &error
        && ![401, 429, 503, 504].contains(&status.code)
    {
        return refused(status.code == 409, status.message.clone());
    }
    if let kube::Error::SerdeError(error) = &error {
        return refused(false, error.to_string());
    }
    Failure::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn only_a_failure_that_affects_every_request_stops_the_rest() {
        for (code, is_refused) in [
            (401, false),
            (403, true),
            (404, true),
            (409, true),
            (422, true),
            (429, false),
            (500, true),
            (503, false),
            (504, false),
        ] {
            let status = Status::failure("a webhook failed", "InternalError").with_code(code);
            let failure = failure(kube::Error::Api(Box::new(status)));
            assert_eq!(
                matches!(failure, Failure::Refused { is_conflict, .. } if is_conflict == (code == 409)),
                is_refused,
                "{code}"
            );
        }
        assert!(matches!(
            failure(kube::Error::LinesCodecMaxLineLengthExceeded),
            Failure::Unavailable(_)
        ));
    }
}

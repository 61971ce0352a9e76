//! How requests go wrong.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::lease::Lease;

/// For one request.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a request went wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// This object was refused, or there was no answer about it in time; others may do better.
    Refused { is_conflict: bool, why: String },
    /// No request is worth trying now.
    Unavailable(String),
    /// It is not known that this replica holds the Lease: the request was not sent, or its answer is not awaited.
    NotHeld,
}

/// The answer to a request, if it comes in time, and as long as the Lease is held. A slow answer is about one object, as of a webhook: where
/// the API server answers nobody the Lease is lost.
pub(super) async fn with_time_limit<T>(
    lease: &Lease,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut request = pin!(request);
    loop {
        let left = lease.left();
        if left.is_zero() {
            return Err(Failure::NotHeld);
        }
        let until = deadline.min(Instant::now() + left);
        match timeout_at(until, &mut request).await {
            Ok(answer) => return answer.map_err(failure),
            Err(_) if until < deadline => {} // it may have been renewed
            Err(_) => {
                return Err(Failure::Refused {
                    is_conflict: false,
                    why: format!("no answer in {PATIENCE:?}"),
                });
            }
        }
    }
}

/// A webhook that fails for one namespace answers 500, one that is slow 504: only what no request survives stops the others.
fn failure(error: kube::Error) -> Failure {
    let refused = |is_conflict, why| Failure::Refused { is_conflict, why };
    if let kube::Error::Api(status) = &error
        && ![401, 429, 503].contains(&status.code)
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
            (504, true),
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

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_and_no_answer_awaited_without_the_lease() {
        let lease = Lease::new();
        let sent = std::cell::Cell::new(0);
        let write = async |seconds: u64| {
            let send = async {
                sent.set(sent.get() + 1);
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Ok(())
            };
            with_time_limit(&lease, send).await
        };
        assert_eq!(write(0).await, Err(Failure::NotHeld));
        assert_eq!(sent.get(), 0);
        lease.set(true);
        lease.renew_now();
        assert_eq!(write(7).await, Ok(()));
        assert_eq!(
            write(7).await,
            Err(Failure::NotHeld),
            "not renewed meanwhile"
        );
        lease.renew_now();
        let answered = tokio::join!(write(7), async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            lease.renew_now();
        });
        assert_eq!(answered.0, Ok(()), "renewed meanwhile");
        lease.renew_now();
        let answered = tokio::join!(write(11), async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            lease.renew_now();
        });
        let slow =
            matches!(&answered.0, Err(Failure::Refused { why, .. }) if why == "no answer in 10s");
        assert!(slow, "{:?}", answered.0);
        assert_eq!(sent.get(), 4);
    }
}

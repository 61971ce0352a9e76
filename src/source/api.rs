use std::{error::Error as _, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use kube::{Client, Config, config::AuthInfo};
use serde::de::DeserializeOwned;

use super::{Found, PodSource, credential::Credential, slots};
use crate::{
    cni::PodRef,
    deadline::Deadline,
    node::paths,
    reason::{Explanation, Reason},
};

/// How long a pod that was just created may be unknown to the API server that we ask.
const MAY_BE_NEW: Duration = Duration::from_secs(2);

/// The API server, asked with the host's credential: GET pod, GET namespace, one connection.
pub(super) struct Api {
    credential: Credential,
}

impl Api {
    pub(super) fn new(credential: Credential) -> Self {
        Self { credential }
    }
}

impl PodSource for Api {
    fn look_up(&self, pod: &PodRef, deadline: Deadline) -> Result<Found, Explanation> {
        let _slot = slots::take(deadline)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Reason::Internal.because(format!("starting the API client: {e}")))?;
        runtime.block_on(self.attempts(pod, deadline)).map_err(|failure| self.explain(failure, pod, deadline))
    }
}

/// Why a GET failed.
#[derive(Debug)]
enum Failure {
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
    fn can_pass(&self, waited: Duration) -> bool {
        match self {
            Self::Status { code: 404, .. } => waited < MAY_BE_NEW,
            Self::Status { code, .. } => *code == 429 || *code >= 500,
            Self::Connection(_) => true,
            Self::Certificate(_) | Self::Answer(_) | Self::Timeout => false,
        }
    }
}

impl Api {
    async fn attempts(&self, pod: &PodRef, deadline: Deadline) -> Result<Found, Failure> {
        let client = self.client()?;
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(1))
            .with_jitter()
            .without_max_times()
            .build();
        let mut last = Failure::Timeout;
        loop {
            let waited = deadline.whole().saturating_sub(deadline.left());
            match tokio::time::timeout(deadline.left(), get_both(&client, pod)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(failure)) if failure.can_pass(waited) => last = failure,
                Ok(Err(failure)) => return Err(failure),
                Err(_elapsed) => return Err(last),
            }
            let delay = delays.next().unwrap_or(Duration::from_secs(1));
            if delay >= deadline.left() {
                return Err(last);
            }
            tokio::time::sleep(delay).await;
        }
    }

    fn client(&self) -> Result<Client, Failure> {
        let Credential { server, ca, token } = &self.credential;
        let url = format!("https://{server}").parse().map_err(|e| Failure::Answer(format!("{server}: {e}")))?;
        let mut config = Config::new(url);
        config.root_cert = Some(ca.clone());
        config.auth_info = AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() };
        config.connect_timeout = Some(Duration::from_secs(5));
        config.default_retry = false;
        Client::try_from(config).map_err(failure_of)
    }

    fn explain(&self, failure: Failure, pod: &PodRef, deadline: Deadline) -> Explanation {
        let (server, PodRef { namespace, name, .. }) = (&self.credential.server, pod);
        match failure {
            Failure::Status { code: 401, .. } => self.unauthorized(),
            Failure::Status { code: 403, message } => Reason::ApiForbidden.because(format!("https://{server}: {message}")),
            Failure::Status { code: 404, .. } => Reason::PodNotFound.because(format!("pod {namespace}/{name} does not exist")),
            Failure::Status { code, message } => Reason::ApiUnreachable.because(format!("https://{server} answers {code}: {message}")),
            Failure::Connection(what) => Reason::ApiUnreachable.because(format!("https://{server}: {what}")),
            Failure::Certificate(what) => Reason::ApiUnauthorized
                .because(format!("the certificate of https://{server} does not verify against {}/ca.crt: {what}", paths::API)),
            Failure::Answer(what) => Reason::ApiUnreachable.because(format!("the answer of https://{server} cannot be read: {what}")),
            Failure::Timeout => Reason::DeadlineExceeded.because(format!("https://{server} did not answer within {:?}", deadline.whole())),
        }
    }

    fn unauthorized(&self) -> Explanation {
        let (server, now) = (&self.credential.server, jiff::Timestamp::now());
        Reason::ApiUnauthorized.because(match self.credential.expiry() {
            Some(expiry) if expiry <= now => {
                format!("the token for https://{server} expired at {expiry}, {} s ago", now.as_second() - expiry.as_second())
            }
            Some(_) | None => format!("https://{server} does not accept the token in {}/token", paths::API),
        })
    }
}

async fn get_both(client: &Client, pod: &PodRef) -> Result<Found, Failure> {
    // names were checked to be Kubernetes names when CNI_ARGS was read
    let PodRef { namespace, name, .. } = pod;
    let pod = get(client, format!("/api/v1/namespaces/{namespace}/pods/{name}")).await?;
    let namespace = get(client, format!("/api/v1/namespaces/{namespace}")).await?;
    Ok(Found { pod, namespace })
}

async fn get<T: DeserializeOwned>(client: &Client, path: String) -> Result<T, Failure> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|e| Failure::Answer(e.to_string()))?;
    client.request(request).await.map_err(failure_of)
}

fn failure_of(error: kube::Error) -> Failure {
    if let kube::Error::Api(status) = &error {
        return Failure::Status { code: status.code, message: status.message.clone() };
    }
    if let kube::Error::SerdeError(error) = &error {
        return Failure::Answer(error.to_string());
    }
    // the innermost cause says most
    let (mut cause, mut innermost) = (error.source(), error.to_string());
    while let Some(inner) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = tls_error(inner) {
            return Failure::Certificate(format!("{why:?}"));
        }
        innermost = inner.to_string();
        cause = inner.source();
    }
    Failure::Connection(innermost)
}

/// An I/O error's source is its content's source, so its content has to be looked at as well.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref().or_else(|| tls_error(error.downcast_ref::<std::io::Error>()?.get_ref()?))
}

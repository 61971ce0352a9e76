use std::{error::Error as _, time::Duration};

use futures_util::future::try_join;
use http::{Request, header::AUTHORIZATION};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::Client;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};
use serde::de::DeserializeOwned;

use super::{Found, PodSource, credential::Credential, delays, slots};
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Reason::Internal.because(format!("starting the API client: {e}")))?;
        runtime.block_on(self.attempts(pod, deadline))
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
    /// A slot is held for an attempt, not while waiting for the next: an outage, or pods that are gone, must not hold up the others.
    async fn attempts(&self, pod: &PodRef, deadline: Deadline) -> Result<Found, Explanation> {
        let explain = |failure| self.explain(failure, pod, deadline);
        let mut client = None;
        let mut delays = delays(Duration::from_millis(50), Duration::from_secs(1));
        let mut last: Option<Explanation> = None;
        loop {
            let slot = slots::take(deadline)
                .await
                .map_err(|refusal| if refusal.reason == Reason::DeadlineExceeded { last.take().unwrap_or(refusal) } else { refusal })?;
            let client: &Client = match &mut client {
                Some(client) => client,
                none => none.insert(self.client().map_err(explain)?),
            };
            let waited = deadline.whole().saturating_sub(deadline.left());
            match tokio::time::timeout(deadline.left(), self.get_both(client, pod)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(failure)) if failure.can_pass(waited) => last = Some(explain(failure)),
                Ok(Err(failure)) => return Err(explain(failure)),
                Err(_elapsed) => return Err(last.unwrap_or_else(|| explain(Failure::Timeout))),
            }
            drop(slot);
            let delay = delays.next().unwrap_or_default();
            if delay >= deadline.left() {
                return Err(last.unwrap_or_else(|| explain(Failure::Timeout)));
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// kube's client over a connection that is TLS or nothing, verified against the credential's certificates alone. kube's own stack
    /// would bring kubeconfig, exec plugins and their parsers: a quarter of the program.
    fn client(&self) -> Result<Client, Failure> {
        let mut roots = RootCertStore::empty();
        let (usable, _unusable) = roots.add_parsable_certificates(self.credential.ca.iter().map(|c| CertificateDer::from_slice(c)));
        if usable == 0 {
            return Err(Failure::Certificate("none of its certificates is usable".into()));
        }
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into()).with_safe_default_protocol_versions();
        let tls = tls.map_err(|e| Failure::Connection(e.to_string()))?.with_root_certificates(roots).with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false); // the layer above speaks TLS
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(5)));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http2().wrap_connector(tcp);
        Ok(Client::new(Http::builder(TokioExecutor::new()).http2_only(true).build(connector), "default"))
    }

    async fn get_both(&self, client: &Client, pod: &PodRef) -> Result<Found, Failure> {
        // names were checked to be Kubernetes names when CNI_ARGS was read
        let PodRef { namespace, name, .. } = pod;
        let (pod, namespace) = (format!("/api/v1/namespaces/{namespace}/pods/{name}"), format!("/api/v1/namespaces/{namespace}"));
        let (pod, namespace) = try_join(self.get(client, &pod), self.get(client, &namespace)).await?;
        Ok(Found { pod, namespace })
    }

    async fn get<T: DeserializeOwned>(&self, client: &Client, path: &str) -> Result<T, Failure> {
        let Credential { server, token, .. } = &self.credential;
        let request = Request::get(format!("https://{server}{path}")).header(AUTHORIZATION, format!("Bearer {token}")).body(Vec::new());
        client.request(request.map_err(|e| Failure::Answer(e.to_string()))?).await.map_err(failure_of)
    }

    fn explain(&self, failure: Failure, pod: &PodRef, deadline: Deadline) -> Explanation {
        let (server, PodRef { namespace, name, .. }) = (&self.credential.server, pod);
        match failure {
            Failure::Status { code: 401, .. } => self.unauthorized(),
            Failure::Status { code: 403, message } => Reason::ApiForbidden.because(forbidden(&message)),
            Failure::Status { code: 404, message } => {
                Reason::PodNotFound.because(format!("pod {namespace}/{name} does not exist: {message}"))
            }
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

/// Who may not do what, of the API server's message: the rest of it would push the remedy out of the Pod's event.
fn forbidden(message: &str) -> &str {
    let message = message.split_once(" is forbidden: ").map_or(message, |(_, why)| why);
    message.split_once(" in API group ").map_or(message, |(why, _)| why)
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

#[cfg(test)]
mod tests {
    #[test]
    fn of_a_refusal_who_may_not_do_what_is_told() {
        let message =
            r#"pods "web" is forbidden: User "system:serviceaccount:m:n" cannot get resource "pods" in API group "" in the namespace "a""#;
        assert_eq!(super::forbidden(message), r#"User "system:serviceaccount:m:n" cannot get resource "pods""#);
        assert_eq!(super::forbidden("no"), "no");
    }
}

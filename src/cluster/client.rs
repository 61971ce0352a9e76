use std::{
    error::Error,
    future::{Ready, ready},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Method, Request, Response, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
    uri::{Authority, Scheme},
};
use http_body_util::{Either, Full};
use hyper::body::{Body as HttpBody, Bytes};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{
        Client as Http,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use kube::{Client, client::Body};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};
use serde_json::json;
use tokio::time::timeout;
use tower_service::Service;

use super::{Failure, answer::ObservedBody, credential::Credential};

/// A bearer token that can be replaced while clients use it.
#[derive(Clone)]
pub(crate) struct Bearer(Arc<RwLock<HeaderValue>>);

impl Bearer {
    pub(crate) fn new(token: &str) -> Self {
        Self(Arc::new(RwLock::new(header(token))))
    }

    /// Replaces the token; later requests carry the new one.
    pub(crate) fn replace(&self, token: &str) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = header(token);
    }

    fn header(&self) -> HeaderValue {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn header(token: &str) -> HeaderValue {
    // a credential's token was checked to be graphic ASCII when it was read
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .unwrap_or(HeaderValue::from_static("Bearer"));
    value.set_sensitive(true);
    value
}

/// kube's client over TLS or nothing, verified against the credential's certificates alone: over one HTTP/2 connection, or HTTP/1.1 where what
/// terminates TLS does not speak that. kube's own stack would bring kubeconfig, exec plugins and their parsers: a quarter of the program.
pub(crate) fn client(
    credential: &Credential,
    bearer: &Bearer,
    observer: Option<Arc<dyn Observer>>,
) -> Result<Client, Failure> {
    let mut roots = RootCertStore::empty();
    let (usable, _unusable) = roots
        .add_parsable_certificates(credential.ca.iter().map(|c| CertificateDer::from_slice(c)));
    if usable == 0 {
        return Err(Failure::Certificate(
            "none of its certificates is usable".into(),
        ));
    }
    let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions();
    let tls = tls
        .map_err(|e| Failure::Connection(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new_with_resolver(NoNames);
    tcp.enforce_http(false); // the layer above speaks TLS
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(5)));
    tcp.set_keepalive(Some(KEEP_ALIVE));
    tcp.set_keepalive_interval(Some(KEEP_ALIVE / 4));
    tcp.set_keepalive_retries(Some(4));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_all_versions()
        .wrap_connector(tcp);
    let mut http = Http::builder(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .http2_keep_alive_interval(KEEP_ALIVE);
    let authority = authority(credential.server)?;
    Ok(Client::new(
        Authorized {
            http: http.build(connector),
            authority,
            bearer: bearer.clone(),
            observer,
        },
        "default",
    ))
}

/// Keep-alives, so that a watch notices a server that has vanished.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Connects to IP addresses only: a resolver would load the host's resolver libraries and their configuration.
#[derive(Clone)]
struct NoNames;

impl Service<Name> for NoNames {
    type Response = std::iter::Empty<SocketAddr>;
    type Error = std::io::Error;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        ready(Err(std::io::Error::other(format!(
            "{name} is a name, not an address"
        ))))
    }
}

fn authority(server: SocketAddr) -> Result<Authority, Failure> {
    server
        .to_string()
        .parse()
        .map_err(|e: http::uri::InvalidUri| Failure::Connection(e.to_string()))
}

/// Sends requests, which hold only a path, to the server with the bearer token.
#[derive(Clone)]
struct Authorized<S> {
    http: S,
    authority: Authority,
    bearer: Bearer,
    observer: Option<Arc<dyn Observer>>,
}

/// A request, by what the API server's metrics count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// `get`, `list`, `watch`, `create` or another verb of the API.
    pub(crate) verb: &'static str,
    /// The last part of its path: of a list or watch the kind in the plural.
    pub(crate) resource: String,
}

/// Observes all requests of a client.
pub(crate) trait Observer: Send + Sync {
    /// A request ended with this status; 0 if there was no response.
    fn count_answer(&self, asked: &Asked, code: u16);
    /// A watch received something, if only a bookmark.
    fn note_event(&self, asked: &Asked);
}

impl Asked {
    fn of(request: &Request<Body>) -> Self {
        let (path, query) = (request.uri().path(), request.uri().query());
        let last = path.rsplit('/').next().unwrap_or_default();
        // we list and watch whole kinds, or cluster-scoped ones: a name comes after its kind
        let is_named = path.contains("/namespaces/") || path.split('/').count() > 5;
        let verb = match *request.method() {
            Method::GET if query.is_some_and(|q| q.contains("watch=true")) => "watch",
            Method::GET if is_named => "get",
            Method::GET => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            _ => "other",
        };
        Self {
            verb,
            resource: last.to_owned(),
        }
    }
}

impl<S, B> Service<Request<Body>> for Authorized<S>
where
    S: Service<
            Request<Body>,
            Response = Response<B>,
            Error: Into<BoxError>,
            Future: Send + 'static,
        >,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    type Response = Response<ObservedBody<ServersOrOurs<B>>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        (uri.scheme, uri.authority) = (Some(Scheme::HTTPS), Some(self.authority.clone()));
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.bearer.header());
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("mesh-optin/", env!("CARGO_PKG_VERSION"))),
        );
        let observed = self.observer.clone().map(|by| (Asked::of(&request), by));
        let answer = self.http.call(request);
        Box::pin(async move {
            let answer = match timeout(ANSWER, answer).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_elapsed) => Err(format!("no answer in {} s", ANSWER.as_secs()).into()),
            };
            if let Some((asked, by)) = &observed {
                by.count_answer(asked, answer.as_ref().map_or(0, |a| a.status().as_u16()));
            }
            let watched = observed.filter(|(asked, _)| asked.verb == "watch");
            let heard = watched.map(|(asked, by)| -> Box<dyn Fn() + Send> {
                Box::new(move || by.note_event(&asked))
            });
            Ok(with_wait_in_status(answer?).map(|body| ObservedBody::new(body, heard)))
        })
    }
}

/// How long a response may take to begin: the API server gives up after a minute, a load balancer in front of it may never.
const ANSWER: Duration = Duration::from_secs(75);

type BoxError = Box<dyn Error + Send + Sync>;

/// The server's body, or a substitute.
type ServersOrOurs<B> = Either<B, Full<Bytes>>;

/// Where only a header asks to wait, as with the API server's priority and fairness, the response becomes a Status that says so:
/// kube passes no headers on.
fn with_wait_in_status<B>(response: Response<B>) -> Response<ServersOrOurs<B>> {
    let (code, text) = (response.status(), |name| {
        response.headers().get(name)?.to_str().ok()
    });
    let seconds = text(RETRY_AFTER).and_then(|value| value.parse::<u32>().ok());
    let is_status = text(CONTENT_TYPE).is_some_and(|value| value.starts_with("application/json"));
    match seconds.filter(|_| !code.is_success() && !is_status) {
        None => response.map(Either::Left),
        Some(seconds) => {
            let status = json!({"kind": "Status", "status": "Failure", "code": code.as_u16(),
                "message": code.canonical_reason().unwrap_or_default(), "details": {"retryAfterSeconds": seconds}});
            response.map(|_| Either::Right(Full::from(status.to_string())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorized<S>(http: S) -> Authorized<S> {
        Authorized {
            http,
            authority: authority("127.0.0.1:6443".parse().unwrap()).unwrap(),
            bearer: Bearer::new("t"),
            observer: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_never_answered_times_out() {
        type Never = std::future::Pending<Result<Response<Full<Bytes>>, std::io::Error>>;
        let server = tower::service_fn(|_: Request<Body>| -> Never { std::future::pending() });
        let answer: Result<serde_json::Value, _> =
            crate::cluster::get(&Client::new(authorized(server), ""), "/x").await;
        let Err(Failure::Connection(what)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(what, "no answer in 75 s");
    }

    #[tokio::test]
    async fn retry_after_is_read_from_any_kind_of_response() {
        let failure = |status: u16, header: &'static str, json: bool| async move {
            let server = tower::service_fn(move |_: Request<Body>| {
                let (kind, body) = if json {
                    let status = r#"{"kind":"Status","code":429,"message":"own","details":{"retryAfterSeconds":4}}"#;
                    ("application/json", status)
                } else {
                    ("text/plain", "upstream connect error")
                };
                let response = Response::builder()
                    .status(status)
                    .header(RETRY_AFTER, header);
                let response = response
                    .header(CONTENT_TYPE, kind)
                    .body(Body::from(body.as_bytes().to_vec()));
                ready(response.map_err(std::io::Error::other))
            });
            let answer: Result<serde_json::Value, _> =
                crate::cluster::get(&Client::new(authorized(server), ""), "/x").await;
            answer.unwrap_err()
        };
        for (status, header, json, seconds) in [
            (429, "7", false, 7),
            (503, "9", false, 9),
            (429, "7", true, 4),
        ] {
            let failure = failure(status, header, json).await;
            assert_eq!(
                failure.retry_after(),
                Some(Duration::from_secs(seconds)),
                "{failure:?}"
            );
        }
        let at_a_time = failure(503, "Wed, 21 Oct 2026 07:28:00 GMT", false).await;
        assert!(
            matches!(at_a_time, Failure::Status { code: 503, .. })
                && at_a_time.retry_after().is_none(),
            "{at_a_time:?}"
        );
    }
}

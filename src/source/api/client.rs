use std::{
    future::{Ready, ready},
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Request, Uri,
    header::{AUTHORIZATION, USER_AGENT},
    uri::{Authority, Scheme},
};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{
        Client as Http,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use kube::Client;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};
use tower_service::Service;

use super::{Failure, credential::Credential};

/// A bearer token that can be replaced while clients use it.
#[derive(Clone)]
pub(crate) struct Bearer(Arc<RwLock<HeaderValue>>);

impl Bearer {
    pub(crate) fn new(token: &str) -> Self {
        Self(Arc::new(RwLock::new(header(token))))
    }

    /// From now on requests carry this one.
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
pub(crate) fn client(credential: &Credential, bearer: &Bearer) -> Result<Client, Failure> {
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
        },
        "default",
    ))
}

/// A watch must notice that its server is gone without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Servers are addresses. A resolver of names would bring the host's resolver libraries, and their configuration.
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

/// Sends requests, which name a path, to the server, in the bearer's name.
#[derive(Clone)]
struct Authorized<S> {
    http: S,
    authority: Authority,
    bearer: Bearer,
}

impl<B, S: Service<Request<B>>> Service<Request<B>> for Authorized<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.http.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        (uri.scheme, uri.authority) = (Some(Scheme::HTTPS), Some(self.authority.clone()));
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.bearer.header());
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("mesh-optin/", env!("CARGO_PKG_VERSION"))),
        );
        self.http.call(request)
    }
}

//! Serves `/healthz`, `/readyz` and `/metrics`. Each listener has its own limit of connections, so that filling the metrics port
//! cannot starve kubelet's probes.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use http::{
    Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    task::AbortHandle,
};
use tracing::{debug, warn};

use super::TextFormat;
use crate::reason::{Explanation, Reason};

/// Connections at a time.
const MOST: usize = 64;
/// Longest answer that a probe reads, in bytes.
const LONGEST: u64 = 64 << 10;
/// How long a request's head may take, and a response.
const HEAD: Duration = Duration::from_secs(5);

/// The paths that an address serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paths {
    All,
    Metrics,
}

/// What the probes and metrics are about.
pub(crate) trait Observed: Send + Sync + 'static {
    /// Why it is not ready; `None` when it is.
    fn not_ready(&self) -> Option<String>;

    /// Its current metrics.
    fn metrics(&self, form: TextFormat) -> String;
}

/// Serves an address until the program ends. A failure to bind it is logged and retried: no pod needs it.
pub(crate) async fn serve(observed: Arc<impl Observed>, address: Option<SocketAddr>, paths: Paths) {
    let Some(address) = address else {
        return std::future::pending().await;
    };
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                warn!("listening on {address}: {error}");
                tokio::time::sleep(HEAD).await;
            }
        }
    };
    let mut places = Places::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => conversation(&observed, stream, paths, &mut places),
            Err(error) => pause(&address, &error).await,
        }
    }
}

/// Serves all paths on a socket, if there is one.
pub(crate) async fn serve_socket(observed: Arc<impl Observed>, listener: Option<UnixListener>) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let mut places = Places::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => conversation(&observed, stream, Paths::All, &mut places),
            Err(error) => pause(&"the socket for probes", &error).await,
        }
    }
}

/// Asks on such a socket whether the agent is ready; the error says why it is not.
pub(crate) fn probe(socket: &Path) -> Result<(), Explanation> {
    let ask = || -> io::Result<String> {
        let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(HEAD))?;
        stream.set_write_timeout(Some(HEAD))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
        io::read_to_string(stream.take(LONGEST))
    };
    let answer = ask().map_err(|e| {
        Reason::AgentUnavailable.because(format!(
            "the agent does not answer at {}: {e}",
            socket.display()
        ))
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(Reason::AgentUnavailable.because(body.trim_end()))
    }
}

async fn pause(place: &impl std::fmt::Display, error: &io::Error) {
    warn!("accepting on {place}: {error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// The connections at an address, the oldest first.
#[derive(Default)]
struct Places(VecDeque<AbortHandle>);

impl Places {
    /// Adds a connection, if necessary in place of the oldest one: connections that are held open block no one.
    fn give(&mut self, conversation: AbortHandle) {
        self.0.retain(|earlier| !earlier.is_finished());
        if self.0.len() >= MOST
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(conversation);
    }
}

/// One request.
fn conversation(
    observed: &Arc<impl Observed>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    paths: Paths,
    places: &mut Places,
) {
    let observed = observed.clone();
    let conversation = tokio::spawn(async move {
        let answer = service_fn(|request| {
            std::future::ready(Ok::<_, Infallible>(answer(&*observed, &request, paths)))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(16 << 10)
            .keep_alive(false);
        if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
            debug!("a request ended: {error}");
        }
    });
    places.give(conversation.abort_handle());
}

fn answer(observed: &impl Observed, request: &Request<Incoming>, paths: Paths) -> Response<String> {
    match request.uri().path() {
        "/healthz" if paths == Paths::All => respond(StatusCode::OK, "ok\n".into()),
        "/readyz" if paths == Paths::All => match observed.not_ready() {
            None => respond(StatusCode::OK, "ready\n".into()),
            Some(why) => respond(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/metrics" => {
            let accept = request.headers().get(ACCEPT);
            let form = TextFormat::accepted(accept.and_then(|value| value.to_str().ok()));
            let mut response = respond(StatusCode::OK, observed.metrics(form));
            let content_type = http::HeaderValue::from_static(form.content_type());
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            response
        }
        _ => respond(StatusCode::NOT_FOUND, "there is nothing here\n".into()),
    }
}

fn respond(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response
}

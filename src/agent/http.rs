//! For kubelet and Prometheus: `/healthz`, `/readyz`, `/metrics`. Each address has places of its own: who fills those of one that others
//! can reach does not keep kubelet out.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tracing::{debug, warn};

use super::Agent;

/// Connections at a time.
const MOST: usize = 64;
/// Without a socket for so long, it is better to be started again.
const TOO_LONG: Duration = Duration::from_secs(60);
/// For a request's head.
const HEAD: Duration = Duration::from_secs(5);

/// Which paths an address has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paths {
    All,
    Metrics,
}

/// Serves them until the agent ends. Where the address cannot be bound, that is logged, and tried again: pods do not need it.
pub(super) async fn serve(agent: Arc<Agent>, address: Option<SocketAddr>, paths: Paths) {
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
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("accepting on {address}: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let agent = agent.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                std::future::ready(Ok::<_, Infallible>(answer(&agent, &request, paths)))
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(16 << 10)
                .keep_alive(false);
            if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
                debug!("a request ended: {error}");
            }
            drop(place);
        });
    }
}

fn answer(agent: &Agent, request: &Request<Incoming>, paths: Paths) -> Response<String> {
    match request.uri().path() {
        "/healthz" if paths == Paths::All => match agent.deaf_for() {
            Some(deaf) if deaf > TOO_LONG => say(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("no plugin can ask for {deaf:.0?}\n"),
            ),
            Some(_) | None => say(StatusCode::OK, "ok\n".into()),
        },
        "/readyz" if paths == Paths::All => match agent.not_ready() {
            None => say(StatusCode::OK, "ready\n".into()),
            Some(why) => say(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/metrics" => {
            agent.metrics.cached(agent.cache.size());
            let mut response = say(StatusCode::OK, agent.metrics.text());
            let openmetrics = http::HeaderValue::from_static(
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            );
            response.headers_mut().insert(CONTENT_TYPE, openmetrics);
            response
        }
        _ => say(StatusCode::NOT_FOUND, "there is nothing here\n".into()),
    }
}

fn say(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response
}

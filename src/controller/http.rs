//! `/healthz`, `/readyz` and `/metrics`.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tracing::{debug, warn};

use super::Controller;

/// Connections at a time.
const MOST: usize = 64;
/// For a request and its answer.
const LONGEST: Duration = Duration::from_secs(5);

/// Serves until it is cancelled. Where the address cannot be bound, that is logged, and tried again.
pub(super) async fn serve(controller: Arc<Controller>, address: SocketAddr) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => loop {
                let Ok(place) = places.clone().acquire_owned().await else {
                    return;
                };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let controller = controller.clone();
                        tokio::spawn(async move {
                            let answer = service_fn(|request: Request<Incoming>| {
                                let answer = answer(&controller, request.uri().path());
                                std::future::ready(Ok::<_, Infallible>(answer))
                            });
                            let mut http = http1::Builder::new();
                            http.timer(TokioTimer::new()).keep_alive(false);
                            let served = http.serve_connection(TokioIo::new(stream), answer);
                            if tokio::time::timeout(LONGEST, served).await.is_err() {
                                debug!("a request took too long");
                            }
                            drop(place);
                        });
                    }
                    Err(error) => {
                        warn!("listening on {address}: {error}");
                        tokio::time::sleep(LONGEST).await;
                    }
                }
            },
            Err(error) => {
                warn!("listening on {address}: {error}");
                tokio::time::sleep(LONGEST).await;
            }
        }
    }
}

fn answer(controller: &Controller, path: &str) -> Response<String> {
    let (status, text) = match path {
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match controller.view.unknown() {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(what) => {
                let text = format!("the cluster's {what} are not known yet\n");
                (StatusCode::SERVICE_UNAVAILABLE, text)
            }
        },
        "/metrics" => {
            let leads = !controller.lease.left().is_zero();
            controller.metrics.leader.set(leads.into());
            (StatusCode::OK, controller.metrics.text())
        }
        _ => (StatusCode::NOT_FOUND, "there is nothing here\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    if path == "/metrics" {
        let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(open));
    }
    response
}

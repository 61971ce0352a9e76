//! For kubelet and Prometheus: `/healthz`, `/readyz`, `/metrics`.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};

use super::Agent;

/// Serves them, for ever; an error where the address cannot be had.
pub(super) async fn serve(agent: Arc<Agent>, address: SocketAddr) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(agent);
    axum::serve(tokio::net::TcpListener::bind(address).await?, router).await
}

async fn ready(State(agent): State<Arc<Agent>>) -> impl IntoResponse {
    match agent.not_ready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(agent): State<Arc<Agent>>) -> impl IntoResponse {
    agent.metrics.cached(agent.cache.size());
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], agent.metrics.text())
}

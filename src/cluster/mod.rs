//! The cluster's API server: a client of it, requests for objects, and watches.

mod accepted;
mod answer;
mod client;
mod credential;
mod failure;
mod follow;
mod object;
mod pauses;

use http::{HeaderValue, Request, header::CONTENT_TYPE};
use kube::Client;
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

pub(crate) use self::{
    client::{Asked, Bearer, Observer, client},
    credential::Credential,
    failure::{Concern, Failure},
    follow::{WatchUpdate, follow, kind},
    object::Object,
    pauses::{Cause, Pauses},
};

/// Reads an object.
pub(crate) async fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T, Failure> {
    request(client, Request::get(path).body(Vec::new())).await
}

/// Creates an object, and reads the requested part of the response.
pub(crate) async fn post<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    object: &Value,
) -> Result<T, Failure> {
    let json = HeaderValue::from_static("application/json");
    request(
        client,
        Request::post(path)
            .header(CONTENT_TYPE, json)
            .body(object.to_string().into_bytes()),
    )
    .await
}

/// Applies an object as this field manager, taking fields over from other managers.
pub(crate) async fn apply(
    client: &Client,
    path: &str,
    manager: &str,
    object: &impl Serialize,
) -> Result<(), Failure> {
    let body = serde_json::to_vec(object).map_err(|e| Failure::Answer(e.to_string()))?;
    let yaml = HeaderValue::from_static("application/apply-patch+yaml"); // which JSON is
    let path = format!("{path}?fieldManager={manager}&force=true");
    let patch = Request::patch(path).header(CONTENT_TYPE, yaml).body(body);
    request(client, patch).await.map(|IgnoredAny| ())
}

async fn request<T: DeserializeOwned>(
    client: &Client,
    request: http::Result<Request<Vec<u8>>>,
) -> Result<T, Failure> {
    client
        .request(request.map_err(|e| Failure::Answer(e.to_string()))?)
        .await
        .map_err(Failure::from)
}

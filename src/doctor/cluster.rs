//! Requests with the rights of whoever asks. Each has a deadline and a size limit; one that is refused names the right that is missing.

use std::time::Duration;

use http::{Method, Request, header::CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::Timestamp;
use kube::{Client, client::Body, core::Status};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of an answer: 20,000 pods of 12 KiB.
const LARGEST: usize = 256 << 20;

/// Why something was not seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unseen {
    /// This right is missing, such as "list nodes".
    Right(String),
    /// It was asked for, and there was no answer that can be used.
    Failed(String),
    /// The cluster does not say it.
    NotSaid(String),
}

impl std::fmt::Display for Unseen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Right(right) => write!(f, "the right to {right} is missing"),
            Self::Failed(why) | Self::NotSaid(why) => f.write_str(why),
        }
    }
}

/// What was seen. `None`: the API server does not have the kind, or the object.
pub(super) type Seen<T> = Result<Option<T>, Unseen>;

/// What comes of a write that is only tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trial {
    Admitted,
    /// Refused, and why.
    Refused(String),
}

/// A cluster's API server.
pub(super) struct Cluster {
    client: Client,
}

impl Cluster {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Reads an object. `right` says what it takes.
    pub(super) async fn get<T: DeserializeOwned>(&self, right: &str, path: &str) -> Seen<T> {
        match self.answer(Method::GET, path, None).await? {
            (200, body, _) => read(right, &body).map(Some),
            (code, body, _) => refusal(code, &body, right),
        }
    }

    /// Reads a list from the API server's memory.
    pub(super) async fn list<T: DeserializeOwned>(&self, right: &str, path: &str) -> Seen<Vec<T>> {
        #[derive(Deserialize)]
        struct List<T> {
            items: Vec<T>,
        }
        let and = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{and}resourceVersion=0");
        let list = self.get::<List<T>>(right, &path).await?;
        Ok(list.map(|list| list.items))
    }

    /// The API server's version, and its clock.
    pub(super) async fn version(&self) -> Result<(String, Option<Timestamp>), Unseen> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            git_version: String,
        }
        match self.answer(Method::GET, "/version", None).await? {
            (200, body, date) => {
                let version: Version = read("the version", &body)?;
                Ok((version.git_version, date))
            }
            (code, body, _) => Err(Unseen::Failed(said(code, &body))),
        }
    }

    /// Tries to create an object: the API server says what would come of it, and keeps nothing.
    pub(super) async fn try_create(
        &self,
        right: &str,
        path: &str,
        object: &Value,
    ) -> Result<Trial, Unseen> {
        let path = format!("{path}?dryRun=All");
        match self.answer(Method::POST, &path, Some(object)).await? {
            (200..=299, _, _) => Ok(Trial::Admitted),
            // of a policy, whatever code it chose
            (_, body, _) if message(&body).contains("ValidatingAdmissionPolicy") => {
                Ok(Trial::Refused(message(&body)))
            }
            (code, body, _) => refusal(code, &body, right)
                .and_then(|none: Option<Trial>| none.ok_or(Unseen::Failed(said(code, &body)))),
        }
    }

    /// Whether whoever asks has a right.
    pub(super) async fn may(
        &self,
        verb: &str,
        group: &str,
        resource: &str,
    ) -> Result<bool, Unseen> {
        #[derive(Deserialize)]
        struct Review {
            status: Allowed,
        }
        #[derive(Deserialize)]
        struct Allowed {
            allowed: bool,
        }
        let review = serde_json::json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource}},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        match self.answer(Method::POST, path, Some(&review)).await? {
            (200..=299, body, _) => Ok(read::<Review>("what may be done", &body)?.status.allowed),
            (code, body, _) => Err(Unseen::Failed(said(code, &body))),
        }
    }

    /// Code, body and time of an answer.
    async fn answer(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Vec<u8>, Option<Timestamp>), Unseen> {
        let failed = |why: String| Unseen::Failed(format!("{path}: {why}"));
        let bytes = body.map(|body| body.to_string().into_bytes());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(bytes.unwrap_or_default()))
            .map_err(|e| failed(e.to_string()))?;
        let exchange = async {
            let answer = self.client.send(request).await;
            let answer = answer.map_err(|e| failed(innermost(&e)))?;
            let (head, body) = answer.into_parts();
            let date = head.headers.get("date").and_then(|d| d.to_str().ok());
            let date = date.and_then(|d| jiff::fmt::rfc2822::parse(d).ok());
            let body = whole(body, LARGEST).await.map_err(failed)?;
            let date = date.map(|d| d.timestamp());
            Ok((head.status.as_u16(), body, date))
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await;
        answer.unwrap_or_else(|_| Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))))
    }
}

/// A body of at most this number of bytes.
async fn whole(body: Body, most: usize) -> Result<Vec<u8>, String> {
    let body = Limited::new(body, most).collect().await;
    let body = body.map_err(|e| match e.downcast_ref::<LengthLimitError>() {
        Some(_) => format!(
            "the answer is larger than {} MiB; look at one namespace with -n",
            most >> 20
        ),
        None => e.to_string(),
    })?;
    Ok(body.to_bytes().to_vec())
}

/// Whether a text can be an object's name, and so a part of a path: it may be a tenant's.
pub(super) fn is_name(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    (1..=253).contains(&text.len()) && text.bytes().all(is_part) && !text.starts_with('.')
}

fn read<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, Unseen> {
    serde_json::from_slice(body)
        .map_err(|e| Unseen::Failed(format!("{what}: the answer cannot be read: {e}")))
}

fn message(body: &[u8]) -> String {
    let status = serde_json::from_slice::<Status>(body);
    status.map(|s| s.message).unwrap_or_default()
}

fn said(code: u16, body: &[u8]) -> String {
    format!("the API server answers {code}: {}", message(body))
}

fn refusal<T>(code: u16, body: &[u8], right: &str) -> Seen<T> {
    match code {
        403 => Err(Unseen::Right(right.to_owned())),
        404 => Ok(None),
        _ => Err(Unseen::Failed(format!("{right}: {}", said(code, body)))),
    }
}

/// The innermost cause says most.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_a_name_cannot_be_another_path() {
        for name in ["a", "a.b-9", "9", &"a".repeat(253)] {
            assert!(is_name(name), "{name}");
        }
        for other in [
            "",
            ".",
            "..",
            ".a",
            "a/b",
            "a?b",
            "a%2fb",
            "A",
            "ä",
            "a b",
            "a\n",
            &"a".repeat(254),
        ] {
            assert!(!is_name(other), "{other:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_its_limit() {
        let most = 1 << 20;
        let answer = async |bytes: usize| {
            let answer = whole(Body::from(vec![b'x'; bytes]), most).await;
            answer.map(|body| body.len())
        };
        assert_eq!(answer(most).await, Ok(most));
        let why = answer(most + 1).await.unwrap_err();
        assert!(why.starts_with("the answer is larger than 1 MiB"), "{why}");
    }
}

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::*;
use crate::agent::fixtures::{self, pod};

/// Asks an agent, and goes on with these lines. Returns its answer, once it has ended the conversation.
async fn converse(agent: &Agent, question: &[u8], then: Option<&Value>) -> Option<Value> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let client = async move {
        ours.write_all(question).await.unwrap();
        let mut ours = BufReader::new(ours);
        let mut line = String::new();
        ours.read_line(&mut line).await.unwrap();
        if let Some(then) = then {
            ours.write_all(format!("{then}\n").as_bytes())
                .await
                .unwrap();
        }
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    };
    let (_ended, answer) = tokio::join!(conversation(agent, theirs), client);
    answer
}

async fn ask(agent: &Agent, question: Value, then: Option<&Value>) -> Value {
    let question = format!("{question}\n");
    converse(agent, question.as_bytes(), then).await.unwrap()
}

fn look_up(name: &str) -> Value {
    json!({"version": VERSION, "ask": {"lookUp": {"namespace": "team", "name": name, "uid": "1", "millis": 5000}}})
}

fn not_found(_: &str) -> (u16, Value) {
    (
        404,
        json!({"kind": "Status", "code": 404, "message": "not found"}),
    )
}

fn metric(agent: &Agent, line: &str) -> bool {
    agent
        .metrics
        .text(crate::telemetry::TextFormat::Prometheus)
        .lines()
        .any(|l| l == line)
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_or_is_of_another_version_is_refused() {
    let agent = fixtures::agent(not_found, None);
    for (question, cause) in [
        ("{}\n".to_owned(), "cannot read the question"),
        (
            format!("{}\n", "[".repeat(LONGEST_QUESTION)),
            "cannot read the question",
        ),
        (
            format!("{}\n", json!({"version": 99, "ask": {"owner": {}}})),
            "speaks version 2, not 99",
        ),
    ] {
        let answer = converse(&agent, question.as_bytes(), None).await.unwrap();
        let refused = &answer["reply"]["refused"];
        assert_eq!(refused["reason"], "AgentUnavailable");
        assert!(
            refused["cause"].as_str().unwrap().contains(cause),
            "{answer}"
        );
    }
    // one that says nothing gets no answer
    assert_eq!(converse(&agent, b"", None).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_answered_and_how_its_add_ended_is_remembered() {
    let agent = fixtures::agent(not_found, fixtures::profiles(&[("p", json!({}))]));
    fixtures::put(&agent.cache, pod("web", "1", true));
    let redirected = json!({"outcome": {"reason": "Redirected", "cause": "c"}, "refused": false, "warnings": [],
        "profile": "p", "lookUp": {"secs": 0, "nanos": 1}, "apply": {"secs": 0, "nanos": 1}});
    let answer = ask(&agent, look_up("web"), Some(&redirected)).await;
    let found = &answer["reply"]["found"];
    assert_eq!(found["pod"]["metadata"]["uid"], "1", "{answer}");
    assert_eq!(
        found["namespace"]["metadata"]["labels"]["istio-injection"],
        "enabled"
    );
    assert_eq!(found["profile"]["object"]["metadata"]["name"], "p");
    assert!(metric(
        &agent,
        "mesh_optin_look_ups_total{source=\"cache\"} 1"
    ));
    let decided = json!({"version": VERSION, "ask": {"decided": {"uid": "1"}}});
    let answer = ask(&agent, decided, None).await;
    assert_eq!(
        answer["reply"]["decided"][0]["report"]["outcome"]["reason"], "Redirected",
        "{answer}"
    );
    // `explain` leaves nothing behind, and one that hangs up is counted
    ask(&agent, look_up("web"), Some(&Value::Null)).await;
    assert!(metric(
        &agent,
        "mesh_optin_look_ups_total{source=\"cache\"} 1"
    ));
    assert!(metric(&agent, "mesh_optin_unreported_total 0"));
    ask(&agent, look_up("web"), None).await;
    assert!(metric(&agent, "mesh_optin_unreported_total 1"));
}

#[tokio::test(start_paused = true)]
async fn without_a_profile_a_pod_is_answered_with_the_reason_or_refused_while_none_is_known() {
    let selected = json!({"namespaces": {"matchLabels": {"other": "yes"}}});
    let agent = fixtures::agent(not_found, fixtures::profiles(&[("p", selected)]));
    fixtures::put(&agent.cache, pod("web", "1", true));
    let answer = ask(&agent, look_up("web"), None).await;
    let found = &answer["reply"]["found"];
    assert_eq!(found["trouble"]["reason"], "UnknownProfile", "{answer}");
    assert_eq!(found["profile"], Value::Null);

    let agent = fixtures::agent(not_found, None);
    fixtures::put(&agent.cache, pod("web", "1", true));
    let answer = ask(&agent, look_up("web"), None).await;
    let refused = &answer["reply"]["refused"];
    assert_eq!(refused["reason"], "AgentUnavailable", "{answer}");

    let answer = ask(&agent, look_up("gone"), None).await;
    assert_eq!(
        answer["reply"]["refused"]["reason"], "PodNotFound",
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_starting_says_that_it_is_not_ready() {
    let agent = fixtures::agent(not_found, None);
    let owner = json!({"version": VERSION, "ask": {"owner": {}}});
    let answer = ask(&agent, owner, None).await;
    assert_eq!(answer["reply"]["owner"]["isReady"], false, "{answer}");
}

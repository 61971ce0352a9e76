//! Requests as admin, and the objects that tests need.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::{data::data, lab::inside, run};
use super::{Cluster, SERVER};

impl Cluster {
    /// A merge patch.
    pub fn patch(&self, path: &str, body: &Value) {
        self.request_of("application/merge-patch+json", "PATCH", path, body)
            .unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// A request as admin; the error is the API server's.
    pub fn request(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        self.request_of("application/json", method, path, body)
    }

    fn request_of(
        &self,
        content: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value, Value> {
        self.request_with("admin", content, method, path, body)
    }

    /// Whether this API server has MutatingAdmissionPolicies: from Kubernetes 1.36 on.
    pub fn has_mutating_policies(&self) -> bool {
        let path = "/apis/admissionregistration.k8s.io/v1";
        let kinds = self.request("GET", path, &Value::Null).unwrap();
        kinds.to_string().contains("\"mutatingadmissionpolicies\"")
    }

    /// The minor version of Kubernetes that the API server is.
    pub fn minor_version(&self) -> u32 {
        let version = self.request("GET", "/version", &Value::Null).unwrap();
        version["minor"].as_str().unwrap().parse().unwrap()
    }

    /// What a path answers to the admin; `None` where there is no answer.
    pub fn request_or_nothing(&self, path: &str) -> Option<String> {
        let (ca, url) = (self.directory.join("ca.crt"), format!("{SERVER}{path}"));
        let args = [
            "-sSf",
            "--cacert",
            ca.to_str()?,
            "-H",
            "Authorization: Bearer admin",
            &url,
        ];
        inside(&self.netns, || {
            super::super::try_run("curl", &args, "").ok()
        })
    }

    /// A request by whoever has this token; the error is the API server's.
    pub fn request_with(
        &self,
        token: &str,
        content: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value, Value> {
        let content = format!("Content-Type: {content}");
        let (ca, url) = (self.directory.join("ca.crt"), format!("{SERVER}{path}"));
        let mut args = vec!["-sS", "--cacert", ca.to_str().unwrap(), "-X", method];
        let authorization = format!("Authorization: Bearer {token}");
        args.extend(["-H", &authorization, "-H", &content]);
        if !body.is_null() {
            args.extend(["-d", "@-"]);
        }
        args.push(&url);
        let text = inside(&self.netns, || run("curl", &args, &body.to_string()));
        // "404 page not found" where a group is not served
        let answer: Value = serde_json::from_str(&text).map_err(|_not_json| Value::String(text))?;
        if answer["status"] == "Failure" {
            Err(answer)
        } else {
            Ok(answer)
        }
    }

    /// Sends many requests as admin, one after the other, at most `rate` a second: method, path and body of each.
    pub fn batch(&self, rate: Option<u32>, requests: &[(&str, String, Value)]) {
        let ca = self.directory.join("ca.crt");
        let mut config = String::from("silent\nshow-error\nfail-early\n");
        if let Some(rate) = rate {
            config.push_str(&format!("rate = \"{rate}/s\"\n"));
        }
        for (n, (method, path, body)) in requests.iter().enumerate() {
            let content = match *method {
                "PATCH" => "application/merge-patch+json",
                _ => "application/json",
            };
            let next = if n == 0 { "" } else { "next\n" };
            let body = body.to_string();
            config.push_str(&format!(
                "{next}fail\nurl = \"{SERVER}{path}\"\nrequest = {method}\ncacert = {ca:?}\noutput = /dev/null\ndata = {body:?}\n\
                 header = \"Authorization: Bearer admin\"\nheader = \"Content-Type: {content}\"\n"
            ));
        }
        inside(&self.netns, || run("curl", &["--config", "-"], &config));
    }

    /// The requests of this user that the API server has answered: verb and path of each, watches when they end.
    pub fn requests_of(&self, user: &str) -> Vec<String> {
        self.requests_with(user, |event| event["user"]["username"] == user)
    }

    /// The same of those that hold a text, and of which something is true.
    pub fn requests_with(&self, text: &str, is: impl Fn(&Value) -> bool) -> Vec<String> {
        let log = self.file("audit.log");
        let with_text = log.lines().filter(|line| line.contains(text));
        let events = with_text.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let request = |event: Value| {
            let [verb, path] = ["verb", "requestURI"].map(|field| event[field].as_str().unwrap());
            format!("{verb} {path}")
        };
        events.filter(is).map(request).collect()
    }

    /// Creates an object.
    pub fn create(&self, path: &str, body: &Value) -> Value {
        self.request("POST", path, body)
            .unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// A namespace with what the controller manager would put into it.
    pub fn namespace(&self, name: &str, labels: &Value) {
        self.create(
            "/api/v1/namespaces",
            &json!({"metadata": {"name": name, "labels": labels}}),
        );
        self.service_account(name, "default");
    }

    /// Unless the controller manager was faster.
    pub fn service_account(&self, namespace: &str, name: &str) {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let created = self.request("POST", &path, &json!({"metadata": {"name": name}}));
        if let Err(failure) = created {
            assert_eq!(failure["reason"], "AlreadyExists", "{failure}");
        }
    }

    /// The service accounts, rights and priorities of deploy/: the agent's, and the host's, which may only get what decides.
    pub fn apply_rbac(&self) {
        for file in [
            "base/accounts.yaml",
            "kubernetes/rbac.yaml",
            "host-credential/rbac.yaml",
            "kubernetes/flow-control.yaml",
        ] {
            self.apply(
                &std::fs::read_to_string(format!("{}/deploy/{file}", env!("CARGO_MANIFEST_DIR")))
                    .unwrap(),
            );
        }
    }

    /// Takes a kind from what the agent may see, until [`Self::apply_rbac`].
    pub fn patch_rbac_away(&self, kind: &str) {
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/mesh-optin-agent";
        let role = self.request("GET", path, &Value::Null).unwrap();
        let rules = role["rules"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| rule["resources"][0] != kind)
            .collect::<Vec<_>>();
        self.patch(path, &json!({"rules": rules}));
    }

    /// Creates or changes what a manifest holds.
    pub fn apply(&self, text: &str) {
        std::fs::write(self.directory.join("apply.yaml"), text).unwrap();
        self.enter(&["kubectl", "apply", "-f", "/mnt/apply.yaml"]);
    }

    /// Our CRDs; they are served when this returns.
    pub fn apply_crds(&self) {
        for kind in ["meshprofiles", "meshnodes"] {
            let path = format!(
                "{}/crds/meshoptin.dev_{kind}.yaml",
                env!("CARGO_MANIFEST_DIR")
            );
            self.apply(&std::fs::read_to_string(path).unwrap());
            self.wait_until_served(&format!("{kind}.meshoptin.dev"), "v1alpha1");
        }
    }

    /// Waits until the API server serves the objects of a CRD and lists their kind, which is a moment after the condition Established.
    pub fn wait_until_served(&self, crd: &str, version: &str) {
        let (plural, group) = crd.split_once('.').unwrap();
        let path = format!("/apis/{group}/{version}/{plural}?limit=1");
        let of_group = format!("/apis/{group}/{version}");
        let is_listed = |kinds: Value| {
            let kinds = kinds["resources"].as_array().into_iter().flatten();
            kinds.into_iter().any(|kind| kind["name"] == plural)
        };
        let is_served = || {
            self.request("GET", &path, &Value::Null)?;
            self.request("GET", &of_group, &Value::Null).map(is_listed)
        };
        let started = Instant::now();
        loop {
            let served = is_served();
            if served == Ok(true) {
                return;
            }
            assert!(started.elapsed().as_secs() < 60, "{crd}: {served:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The policy of deploy/ that names unknown fields of MeshProfiles; it holds when this returns.
    pub fn apply_profile_policy(&self) {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/deploy/admission/profiles.yaml"
        );
        self.apply(&std::fs::read_to_string(path).unwrap());
        let unknown = json!({"apiVersion": "meshoptin.dev/v1alpha1", "kind": "MeshProfile", "metadata": {"name": "x"}, "spec": {"x": 1}});
        let path = "/apis/meshoptin.dev/v1alpha1/meshprofiles?dryRun=All";
        let started = std::time::Instant::now();
        let is_denied = || {
            let answer = self.request("POST", path, &unknown);
            answer.is_err_and(|why| why.to_string().contains("ValidatingAdmissionPolicy"))
        };
        while !is_denied() {
            assert!(started.elapsed().as_secs() < 60, "the policy does not hold");
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }

    /// Creates a pod of tests/data/pods under this name; the object that the API server made of it.
    pub fn create_data_pod(&self, file: &str, name: &str) -> Value {
        self.create_changed_pod(file, name, |_| {})
    }

    /// The same with changes.
    pub fn create_changed_pod(
        &self,
        file: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Value {
        self.create_changed_pod_in("team-a", file, name, change)
    }

    /// The same in another namespace.
    pub fn create_changed_pod_in(
        &self,
        namespace: &str,
        file: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Value {
        let (mut pod, _) = data(file);
        let metadata = pod["metadata"].as_object_mut().unwrap();
        metadata
            .retain(|k, _| !["uid", "resourceVersion", "creationTimestamp"].contains(&k.as_str()));
        (metadata["name"], metadata["namespace"]) = (json!(name), json!(namespace));
        pod["status"] = json!({});
        change(&mut pod);
        self.create(&format!("/api/v1/namespaces/{namespace}/pods"), &pod)
    }

    /// A token for a service account.
    pub fn token(&self, namespace: &str, name: &str) -> String {
        let request = json!({"spec": {"expirationSeconds": 3600}});
        let answer = self.create(
            &format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"),
            &request,
        );
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// The agent's token on a node: bound to the Node where there is one, as kubelet's are.
    pub fn token_of_agent(&self, node: &str) -> String {
        let Ok(node) = self.request("GET", &format!("/api/v1/nodes/{node}"), &Value::Null) else {
            return self.token("mesh-optin", "agent");
        };
        let metadata = &node["metadata"];
        let bound = json!({"apiVersion": "v1", "kind": "Node", "name": metadata["name"], "uid": metadata["uid"]});
        let answer = self.create(
            "/api/v1/namespaces/mesh-optin/serviceaccounts/agent/token",
            &json!({"spec": {"expirationSeconds": 3600, "boundObjectRef": bound}}),
        );
        answer["status"]["token"].as_str().unwrap().to_owned()
    }
}

//! What stands in for Istio's injector: a policy of the API server, which sees what its webhook would see.

use serde_json::Value;

use super::Cluster;

/// As Istio's webhook by default: the label of the pod counts before that of its namespace. What is injected is the stand-in for a sidecar.
const POLICY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: zz-injector}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  variables:
  - {name: namespace, expression: "has(namespaceObject.metadata.labels) ? namespaceObject.metadata.labels : {}"}
  - {name: labels, expression: "has(object.metadata.labels) ? object.metadata.labels : {}"}
  - name: wanted
    expression: >-
      !(object.spec.containers.exists(c, c.name == 'istio-proxy')) && ('sidecar.istio.io/inject' in variables.labels
      ? variables.labels['sidecar.istio.io/inject'] == 'true'
      : 'istio-injection' in variables.namespace && variables.namespace['istio-injection'] == 'enabled')
  - {name: annotations, expression: "has(object.metadata.annotations) ? object.metadata.annotations : {}"}
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        !variables.wanted ? [] : [
          JSONPatch{op: 'add', path: '/spec/containers/-', value: Object.spec.containers{
            name: 'istio-proxy', image: 'stack.test/app:1', imagePullPolicy: 'Never', args: ['serve', '15001', '15006'],
            securityContext: Object.spec.containers.securityContext{runAsUser: 1337, runAsGroup: 1337}}}]
        + (has(object.metadata.annotations) ? [] : [JSONPatch{op: 'add', path: '/metadata/annotations', value: {'a': 'b'}}])
        + [JSONPatch{op: 'add', path: '/metadata/annotations/sidecar.istio.io~1status', value: '{}'}]
        + ('k8s.v1.cni.cncf.io/networks' in variables.annotations ? []
          : [JSONPatch{op: 'add', path: '/metadata/annotations/k8s.v1.cni.cncf.io~1networks', value: 'default/istio-cni'}])
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: zz-injector}
spec: {policyName: zz-injector}
"#;

impl Cluster {
    /// Whether this API server has MutatingAdmissionPolicies: from Kubernetes 1.36 on.
    pub fn has_mutating_policies(&self) -> bool {
        let path = "/apis/admissionregistration.k8s.io/v1";
        let kinds = self.request("GET", path, &Value::Null).unwrap();
        kinds.to_string().contains("\"mutatingadmissionpolicies\"")
    }

    /// Gives pods a sidecar from now on, where their labels or those of their namespace ask for it.
    pub fn inject(&self) {
        self.apply(POLICY);
    }
}

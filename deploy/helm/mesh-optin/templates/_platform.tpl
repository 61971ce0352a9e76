{{/*
What differs between platforms, each with where that is said. Istio's names (manifests/helm-profiles, istio 1.27), where it has one.
  openshift  cluster-network-operator bindata/network/multus/multus.yaml: --multus-conf-file, cniDir /var/lib/cni/bin, /etc/kubernetes/cni/net.d
  k3s        docs.k3s.io/networking/multus-ipams: binDir /var/lib/rancher/k3s/data/cni, confDir /var/lib/rancher/k3s/agent/etc/cni/net.d
  rke2       docs.rke2.io/networking/multus_sriov: the usual directories
  k0s        docs.k0sproject.io/stable/custom-cri-runtime: its containerd has the usual directories
  microk8s   canonical/microk8s-addons: addons/multus: everything below the snap's own directories
  gke        istio manifests/helm-profiles/platform-gke.yaml: /home/kubernetes/bin; critical pods need a quota outside of kube-system
  eks, aks   aws/amazon-vpc-cni-k8s, Azure/azure-container-networking: the usual directories
  talos      docs.siderolabs.com, Multus: /etc is read-only but for /etc/cni; pod security is enforced as baseline
*/}}
{{- define "paths" }}
{{- $platforms := dict
  "openshift" (dict "cniBin" "/var/lib/cni/bin" "runtimeConf" "/etc/kubernetes/cni/net.d")
  "k3s" (dict "cniBin" "/var/lib/rancher/k3s/data/cni" "runtimeConf" "/var/lib/rancher/k3s/agent/etc/cni/net.d")
  "microk8s" (dict "cniBin" "/var/snap/microk8s/current/opt/cni/bin" "runtimeConf" "/var/snap/microk8s/current/args/cni-network")
  "gke" (dict "cniBin" "/home/kubernetes/bin") }}
{{- $usual := dict "cniBin" "/opt/cni/bin" "multusConf" "/etc/cni/multus/net.d" "multusCache" "/var/lib/cni/multus" "runtimeConf" "/etc/cni/net.d" }}
{{- $given := dict }}
{{- range $name, $path := .Values.paths }}{{ if $path }}{{ $_ := set $given $name $path }}{{ end }}{{ end }}
{{- merge $given (get $platforms .Values.platform | default dict) $usual | toYaml }}
{{- end }}

{{- define "resources" }}
{{- $resources := dict "requests" (dict "cpu" "10m" "memory" "24Mi") }}
{{- if ne .Values.platform "openshift" }}{{ $_ := set $resources "limits" (dict "memory" "512Mi") }}{{ end }}
{{- .Values.resources | default $resources | toJson }}
{{- end }}

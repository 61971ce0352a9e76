{{/* Whether this release installs what has no namespace, and what has one: "yes" or nothing. */}}
{{- define "has-cluster" }}{{ if has .Values.resourceScope (list "all" "cluster") }}yes{{ end }}{{ end }}
{{- define "has-namespace" }}{{ if has .Values.resourceScope (list "all" "namespace") }}yes{{ end }}{{ end }}

{{/* Whether a real API server is at hand, not only `helm template`: every cluster has this namespace. */}}
{{- define "is-live" }}{{ if lookup "v1" "Namespace" "" "kube-system" }}yes{{ end }}{{ end }}

{{- define "labels" -}}
app.kubernetes.io/part-of: mesh-optin
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{/* A document of a file of deploy/, which has our accounts and namespace as they are in namespace mesh-optin, for the release's. */}}
{{- define "in-namespace" }}
{{- $namespace := .namespace }}
{{- $object := .text | replace "system:serviceaccount:mesh-optin:" (printf "system:serviceaccount:%s:" $namespace) | fromYaml }}
{{- if eq (dig "metadata" "namespace" "" $object) "mesh-optin" }}{{ $_ := set $object.metadata "namespace" $namespace }}{{ end }}
{{- range dig "subjects" list $object }}
{{- if eq (.namespace | default "") "mesh-optin" }}{{ $_ := set . "namespace" $namespace }}{{ end }}
{{- end }}
{{- range dig "spec" "matchConstraints" "namespaceSelector" "matchExpressions" list $object }}
{{- if eq .key "kubernetes.io/metadata.name" }}
{{- $values := list }}
{{- range .values }}{{ $values = append $values (eq . "mesh-optin" | ternary $namespace .) }}{{ end }}
{{- $_ := set . "values" $values }}
{{- end }}
{{- end }}
{{ toYaml $object }}
{{- end }}

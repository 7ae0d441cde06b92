{{/* Labels of every object. */}}
{{- define "mesh.labels" -}}
app.kubernetes.io/name: mesh
app.kubernetes.io/part-of: mesh
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
mesh.dev/install: {{ .Values.namespace.name | quote }}
{{- end }}

{{/* What selects the operator's Pods; never changes. */}}
{{- define "mesh.operatorLabels" -}}
app.kubernetes.io/name: mesh
app.kubernetes.io/component: operator
{{- end }}

{{/* What the injector writes into Pods, as the operator and `mesh inject` read it. */}}
{{- define "mesh.injection" -}}
controlNamespace: {{ .Values.namespace.name | quote }}
trustDomain: {{ .Values.identity.trustDomain | quote }}
clusterDomain: {{ .Values.clusterDomain | quote }}
defaultPolicy: {{ .Values.defaultPolicy | quote }}
image: "{{ .Values.images.registry }}{{ .Values.images.proxy }}:{{ .Values.images.tag | default .Chart.AppVersion }}"
pullPolicy: {{ .Values.images.pullPolicy | quote }}
proxy: {{ toJson .Values.proxy }}
{{- end }}

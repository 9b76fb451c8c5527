{{- define "smtpseal.name" -}}
{{- if contains "smtpseal" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-smtpseal" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "smtpseal.selector" -}}
app.kubernetes.io/name: smtpseal
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "smtpseal.labels" -}}
{{ include "smtpseal.selector" . }}
app.kubernetes.io/component: {{ .Values.mode }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "smtpseal.tlsSecret" -}}
{{ .Values.certificate.secretName | default (printf "%s-tls" (include "smtpseal.name" .)) }}
{{- end }}

{{- define "smtpseal.storageNamespace" -}}
{{ .Values.storage.namespace | default (printf "%s-certificates" .Release.Namespace) }}
{{- end }}

{{- /* Clients' ports, by the name of the listener. */ -}}
{{- define "smtpseal.ports" -}}
{{- with .Values.listeners }}
{{- if .submissions }}
submissions: 465
{{- end }}
{{- if .submission }}
submission: 587
{{- end }}
{{- if .mx }}
smtp: 25
{{- end }}
{{- end }}
{{- if and (eq .Values.certificate.source "acme") (has "http-01" .Values.certificate.acme.challenges) }}
http: 80
{{- end }}
{{- end }}

{{- define "smtpseal.names" -}}
{{ .Values.names | default (list .Values.hostname) | toJson }}
{{- end }}

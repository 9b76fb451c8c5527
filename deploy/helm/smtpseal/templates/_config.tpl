{{- /* smtpseal.yaml, before what values lay over it. */ -}}
{{- define "smtpseal.config" -}}
{{- $values := .Values }}
{{- $accept := list }}
{{- if eq .Values.service.clientAddress "proxy" }}{{ $accept = .Values.service.proxyNetworks }}{{ end }}
hostname: {{ .Values.hostname }}
listeners:
{{- range $name, $listener := dict "submissions" (list ":465" "implicit") "submission" (list ":587" "starttls") "mx" (list ":25" "starttls-optional") }}
{{- if index $values.listeners $name }}
  - name: {{ $name }}
    listen: {{ index $listener 0 | quote }}
    tls: {{ index $listener 1 }}
    backend: mta
    accept_proxy: {{ $accept | toJson }}
{{- end }}
{{- end }}
backends:
  mta:
    preset: {{ .Values.backend.preset }}
    servers: {{ .Values.backend.servers | toJson }}
    {{- with .Values.backend.proxyProtocol }}
    proxy_protocol: {{ . | quote }}
    {{- end }}
    relay_check: {{ .Values.backend.relayCheck }}
{{- if eq .Values.certificate.source "acme" }}
certificates:
  - names: {{ include "smtpseal.names" . }}
acme:
  {{- with .Values.certificate.acme }}
  email: {{ .email }}
  {{- with .directory }}
  directory: {{ . }}
  {{- end }}
  challenges: {{ .challenges | toJson }}
  {{- with .dns }}
  dns: {{ . | toJson }}
  {{- end }}
  {{- end }}
storage:
  type: kubernetes
  namespace: {{ include "smtpseal.storageNamespace" . }}
  {{- if .Values.storage.encryptionSecret }}
  encryption_key: file:/run/secrets/smtpseal/encryption-key
  {{- end }}
{{- if and .Values.storage.encryptionSecret (eq .Values.mode "gateway") }}
tls:
  session_tickets: shared
{{- end }}
{{- else }}
certificates:
  - cert_file: /etc/smtpseal-tls/tls.crt
    key_file: /etc/smtpseal-tls/tls.key
{{- end }}
timeouts:
  shutdown: {{ .Values.drainSeconds }}s
admin:
  listen: ":9465"
log:
  format: json
{{- end }}

{{- define "smtpseal.configText" -}}
{{ mergeOverwrite (include "smtpseal.config" . | fromYaml) (deepCopy .Values.config) | toYaml }}
{{- end }}

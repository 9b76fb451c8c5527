{{- define "smtpseal.container" -}}
name: smtpseal
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if eq .Values.mode "sidecar" }}
restartPolicy: Always
{{- end }}
args: [run]
{{- if and (eq .Values.certificate.source "acme") .Values.certificate.acme.environmentSecret }}
envFrom:
  - secretRef: {name: {{ .Values.certificate.acme.environmentSecret }}}
{{- end }}
ports:
  {{- range $name, $port := include "smtpseal.ports" . | fromYaml }}
  - {name: {{ $name }}, containerPort: {{ $port }}}
  {{- end }}
  - {name: admin, containerPort: 9465}
startupProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 3
lifecycle:
  preStop:
    {{- if eq .Values.mode "sidecar" }}
    exec: {command: [/usr/bin/smtpseal, drain]}
    {{- else }}
    sleep: {seconds: 10}
    {{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - {name: smtpseal, mountPath: /etc/smtpseal, readOnly: true}
  {{- if eq .Values.certificate.source "acme" }}
  - {name: smtpseal-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
  {{- if .Values.storage.encryptionSecret }}
  - {name: smtpseal-secrets, mountPath: /run/secrets/smtpseal, readOnly: true}
  {{- end }}
  {{- else }}
  - {name: smtpseal-tls, mountPath: /etc/smtpseal-tls, readOnly: true}
  {{- end }}
{{- end }}

{{- define "smtpseal.volumes" -}}
- name: smtpseal
  configMap: {name: {{ include "smtpseal.name" . }}}
{{- if eq .Values.certificate.source "acme" }}
- name: smtpseal-token
  projected:
    defaultMode: 0444
    sources:
      - serviceAccountToken: {path: token}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- if .Values.storage.encryptionSecret }}
- name: smtpseal-secrets
  secret: {secretName: {{ .Values.storage.encryptionSecret }}, defaultMode: 0444}
{{- end }}
{{- else }}
- name: smtpseal-tls
  secret: {secretName: {{ include "smtpseal.tlsSecret" . }}, defaultMode: 0444}
{{- end }}
{{- end }}

{{- define "smtpseal.podMetadata" -}}
labels:
  {{- include "smtpseal.labels" . | nindent 2 }}
annotations:
  # A change of the configuration is a rolling update.
  smtpseal/config: {{ include "smtpseal.configText" . | sha256sum | trunc 16 | quote }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "smtpseal.podCommon" -}}
serviceAccountName: {{ include "smtpseal.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - {name: {{ . }}}
  {{- end }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with index $.Values $key }}
{{ $key }}: {{ . | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{- define "fairlead.image" -}}
{{ .root.Values.global.hub }}/fairlead-{{ .component }}:{{ .root.Values.global.tag }}
{{- end }}

{{- /* A name without a slash is one of ours. */ -}}
{{- define "fairlead.proxyImage" -}}
{{- $image := .Values.global.proxy.image -}}
{{- if contains "/" $image }}{{ $image }}{{ else }}{{ .Values.global.hub }}/{{ $image }}:{{ .Values.global.tag }}{{ end -}}
{{- end }}

{{- define "fairlead.labels" -}}
{{ include "fairlead.podLabels" . }}
istio.io/rev: {{ .root.Values.revision | default "default" | quote }}
{{- end }}

{{- /* Of pods that istioctl shall not take for the control plane it asks. */ -}}
{{- define "fairlead.podLabels" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: fairlead
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- /* Of a Service that no proxy calls: without it each roll of ours would be a change for every proxy of the mesh. */ -}}
{{- define "fairlead.private" -}}
annotations: {networking.istio.io/exportTo: "~"}
{{- end }}

{{- define "fairlead.groups" -}}
[networking.istio.io, security.istio.io, telemetry.istio.io, extensions.istio.io]
{{- end }}

{{- /* What names no revision is ours: this is the default revision, or has its tag. */ -}}
{{- define "fairlead.isDefault" -}}
{{- or (eq (.Values.revision | default "default") .Values.defaultRevision) (has "default" .Values.revisionTags) -}}
{{- end }}

{{- define "fairlead.tagConfiguration" -}}
istio-revision-tag-{{ .tag }}{{ if ne .root.Release.Namespace "istio-system" }}-{{ .root.Release.Namespace }}{{ end }}
{{- end }}

{{- define "fairlead.pilotPorts" -}}
- {name: grpc-xds, port: 15010, targetPort: grpc-xds}
- {name: https-dns, port: 15012, targetPort: tls-xds}
- {name: http-monitoring, port: 15014, targetPort: admin}
{{- end }}

{{- define "fairlead.injectorConfig" -}}
istio-sidecar-injector{{ with .Values.revision }}-{{ . }}{{ end }}
{{- end }}

{{- define "fairlead.selector" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- /* What the three pods have in common: identity, security, placement. */ -}}
{{- define "fairlead.podSpec" -}}
serviceAccountName: {{ .component }}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.global.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- if ne .root.Values.global.platform "openshift" }}
  runAsUser: 1338
  runAsGroup: 1338
  fsGroup: 1338
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- with .own.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- else }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "fairlead.selector" . | nindent 14 }}
{{- end }}
{{- end }}

{{- define "fairlead.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "fairlead.common" -}}
image: {{ include "fairlead.image" . }}
{{- with .root.Values.global.imagePullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{ include "fairlead.containerSecurity" . }}
resources: {{- toYaml .own.resources | nindent 2 }}
{{- end }}

{{- /* Accounts of node proxies, as Istio names them; empty: none. */ -}}
{{- define "fairlead.nodeAccounts" -}}
{{- if .Values.citadel.env.CA_TRUSTED_NODE_ACCOUNTS -}}
{{ .Values.citadel.env.CA_TRUSTED_NODE_ACCOUNTS }}
{{- else if .Values.trustedZtunnelName -}}
{{ .Values.trustedZtunnelNamespace | default .Release.Namespace }}/{{ .Values.trustedZtunnelName }}
{{- end -}}
{{- end }}

{{- /* auto: the API server is of 1.33 at least, so no kubelet is older than 1.30, where native sidecars are on unless somebody has switched them off. */ -}}
{{- define "fairlead.nativeSidecar" -}}
{{- $native := toString .Values.global.proxy.nativeSidecar -}}
{{- if eq $native "auto" -}}
{{ semverCompare ">=1.33.0-0" .Capabilities.KubeVersion.Version }}
{{- else -}}
{{ $native }}
{{- end -}}
{{- end }}

{{- define "fairlead.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- range $name, $value := .own.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "fairlead.probes" -}}
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
{{- end }}

{{- define "fairlead.args" -}}
- --log-level={{ .root.Values.global.logging.level }}
{{- if .root.Values.global.logAsJson }}
- --log-format=json
{{- end }}
- --instance=$(POD_NAME)
- --bus-keys=/etc/fairlead/bus
- --state-dir=/var/lib/fairlead
{{- end }}

{{- /* The bus's keys: everybody's public ones, and of the secret ones only the own. */ -}}
{{- define "fairlead.busVolume" -}}
- name: bus-keys
  secret:
    secretName: fairlead-bus
    defaultMode: 0440
    items:
      - {key: {{ .component }}.key, path: {{ .component }}.key}
      {{- range list "galley" "pilot" "citadel" "agent" "cli" }}
      - {key: {{ . }}.pub, path: {{ . }}.pub}
      {{- end }}
- name: state
  emptyDir: {}
{{- end }}

{{- define "fairlead.busMounts" -}}
- {name: bus-keys, mountPath: /etc/fairlead/bus, readOnly: true}
- {name: state, mountPath: /var/lib/fairlead}
{{- end }}

{{- /* A token by which citadel knows who asks, and the roots that prove who citadel is. Not optional: kubelet waits some seconds for the first citadel to
write them, but would look only after a minute whether an optional one has come. */ -}}
{{- define "fairlead.caVolumes" -}}
- name: istio-token
  projected:
    sources:
      - serviceAccountToken: {audience: istio-ca, expirationSeconds: 43200, path: istio-token}
- name: istiod-ca-cert
  configMap: {name: {{ .root.Values.global.trustBundleName }}}
{{- end }}

{{- define "fairlead.caMounts" -}}
- {name: istio-token, mountPath: /var/run/secrets/tokens, readOnly: true}
- {name: istiod-ca-cert, mountPath: /var/run/secrets/istio, readOnly: true}
{{- end }}

{{- define "fairlead.caArgs" -}}
- --ca-address=fairlead-citadel.{{ .root.Release.Namespace }}.svc:8060
- --ca-roots=/var/run/secrets/istio/root-cert.pem
- --ca-token=/var/run/secrets/tokens/istio-token
- --ca-name=citadel
- --trust-domain={{ .root.Values.meshConfig.trustDomain | default "cluster.local" }}
{{- end }}

{{- /* The CA's Secret as files; with follow, kept in step, and its root rotated before it ends. */ -}}
{{- define "fairlead.caSecret" -}}
{{ include "fairlead.common" . }}
args:
  - ca-secret
  - --namespace={{ .root.Release.Namespace }}
  - --out=/etc/cacerts/ca
  - --root-key={{ .own.rootKey }}
  - --root-ttl={{ .own.rootTTL }}
  - --trust-domain={{ .root.Values.meshConfig.trustDomain | default "cluster.local" }}
  {{- if .follow }}
  - --follow=10s
  - --root-rotation={{ .own.rootRotation }}
  - --root-distribution={{ .own.rootDistribution }}
  - --max-workload-cert-ttl={{ .own.maxWorkloadCertTTL }}
  {{- end }}
volumeMounts:
  - {name: cacerts, mountPath: /etc/cacerts}
  - {name: tmp, mountPath: /tmp}
{{- end }}

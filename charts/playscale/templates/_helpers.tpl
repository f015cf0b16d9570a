{{- define "playscale.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The prefix of all names: the release, and the chart where the release is not called after it. 50 leave room for suffixes. */}}
{{- define "playscale.fullname" -}}
{{- $name := include "playscale.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Called with (list $ component). */}}
{{- define "playscale.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ include "playscale.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{- define "playscale.labels" -}}
{{- $root := first . -}}
{{ include "playscale.selector" . }}
app.kubernetes.io/part-of: playscale
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "playscale.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "playscale.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "playscale.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "playscale.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "playscale.pipelineNamespace" -}}
{{- .Values.pipeline.namespace | default .Release.Namespace -}}
{{- end -}}

{{/* The steps whose pods run in pipelines, as their label app.kubernetes.io/component says. */}}
{{- define "playscale.steps" -}}
[collect, prepare, plan, train, evaluate, fit, check, forecast]
{{- end -}}

{{- define "playscale.mlflow.name" -}}
{{- include "playscale.fullname" . }}-mlflow
{{- end -}}

{{- define "playscale.mlflow.host" -}}
{{- include "playscale.mlflow.name" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{/* Where pods of the cluster reach MLflow. */}}
{{- define "playscale.mlflow.uri" -}}
{{- if .Values.mlflow.deploy -}}
http://{{ include "playscale.mlflow.host" . }}:{{ .Values.mlflow.port }}
{{- else -}}
{{ required "mlflow.trackingUri: name the external MLflow, or set mlflow.deploy to true" .Values.mlflow.trackingUri }}
{{- end -}}
{{- end -}}

{{/* The port at which users of the ingress or the route enter. */}}
{{- define "playscale.mlflow.entrance" -}}
{{- ternary .Values.mlflow.oidc.port .Values.mlflow.port .Values.mlflow.oidc.enabled -}}
{{- end -}}

{{- define "playscale.login.secret" -}}
{{- .Values.mlflow.existingLogin | default .Values.pipeline.loginName -}}
{{- end -}}

{{/* Whether this chart makes the accounts: "true" or "". */}}
{{- define "playscale.auth" -}}
{{- if and .Values.mlflow.deploy .Values.mlflow.auth.enabled -}}true{{- end -}}
{{- end -}}

{{/* Variables with the login of pipeline pods, for pods of this chart; which of them the Secret has is its own affair. */}}
{{- define "playscale.login.env" -}}
{{- if or .Values.mlflow.existingLogin (include "playscale.auth" .) -}}
{{- range list "MLFLOW_TRACKING_USERNAME" "MLFLOW_TRACKING_PASSWORD" "MLFLOW_TRACKING_TOKEN" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ include "playscale.login.secret" $ }}, key: {{ . }}, optional: true}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "playscale.auth.secret" -}}
{{- .Values.mlflow.auth.existingSecret | default (printf "%s-auth" (include "playscale.mlflow.name" .)) -}}
{{- end -}}

{{/* The Host headers that get an answer. MLflow compares the whole header, port and all. */}}
{{- define "playscale.mlflow.hosts" -}}
{{- $name := include "playscale.mlflow.name" . -}}
{{- $space := .Release.Namespace -}}
{{- $port := .Values.mlflow.port -}}
{{- $hosts := list -}}
{{- range list $name (printf "%s.%s" $name $space) (printf "%s.%s.svc" $name $space) (include "playscale.mlflow.host" .) -}}
{{- $hosts = concat $hosts (list . (printf "%s:%v" . $port)) -}}
{{- end -}}
{{- $hosts = concat $hosts (list "localhost" "localhost:*" "127.0.0.1" "127.0.0.1:*" (printf "$(POD_IP):%v" $port)) -}}
{{- if .Values.ingress.enabled -}}
{{- $hosts = concat $hosts .Values.ingress.hosts -}}
{{- end -}}
{{- if .Values.httpRoute.enabled -}}
{{- $hosts = concat $hosts .Values.httpRoute.hosts -}}
{{- end -}}
{{- concat $hosts .Values.mlflow.allowedHosts | uniq | join "," -}}
{{- end -}}

{{/* What users of the cluster's entrance call MLflow, one URL a line: the hosts of the ingress and of the route. */}}
{{- define "playscale.mlflow.pages" -}}
{{- if .Values.ingress.enabled -}}
{{- range .Values.ingress.hosts }}
{{ ternary "https" "http" (ne $.Values.ingress.tlsSecret "") }}://{{ . }}
{{- end -}}
{{- end -}}
{{- if .Values.httpRoute.enabled -}}
{{- range .Values.httpRoute.hosts }}
{{ ternary "https" "http" $.Values.httpRoute.https }}://{{ . }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "playscale.mlflow.origins" -}}
{{- $origins := concat .Values.mlflow.allowedOrigins (include "playscale.mlflow.pages" . | splitList "\n" | compact) -}}
{{- $origins | uniq | join "," -}}
{{- end -}}

{{/* Whether the development Postgres runs: "true" or "". */}}
{{- define "playscale.postgres.deployed" -}}
{{- if and .Values.mlflow.deploy .Values.postgres.deploy -}}true{{- end -}}
{{- end -}}

{{- define "playscale.postgres.name" -}}
{{- include "playscale.fullname" . }}-postgres
{{- end -}}

{{- define "playscale.postgres.host" -}}
{{- if .Values.postgres.deploy -}}
{{ include "playscale.postgres.name" . }}
{{- else -}}
{{ required "postgres.host: name the external Postgres, or set postgres.deploy to true for a development one" .Values.postgres.host }}
{{- end -}}
{{- end -}}

{{- define "playscale.postgres.secret" -}}
{{- .Values.postgres.existingSecret | default (include "playscale.postgres.name" .) -}}
{{- end -}}

{{- define "playscale.postgres.key" -}}
{{- ternary .Values.postgres.existingSecretKey "password" (ne .Values.postgres.existingSecret "") -}}
{{- end -}}

{{/*
The database without its password, which libpq takes from PGPASSWORD: so it stands in no argument and needs no quoting.
The driver is named, for what "postgresql" alone means depends on SQLAlchemy's version.
*/}}
{{- define "playscale.postgres.uri" -}}
{{- $postgres := .Values.postgres -}}
postgresql+psycopg2://{{ $postgres.user }}@{{ include "playscale.postgres.host" . }}:{{ $postgres.port }}/{{ $postgres.database }}?sslmode={{ include "playscale.postgres.sslMode" . }}
{{- end -}}

{{/* The development Postgres has TLS only if a certificate is given. */}}
{{- define "playscale.postgres.sslMode" -}}
{{- $postgres := .Values.postgres -}}
{{- ternary "disable" $postgres.sslMode (and $postgres.deploy (not $postgres.tlsSecret)) -}}
{{- end -}}

{{- define "playscale.s3.name" -}}
{{- include "playscale.fullname" . }}-s3
{{- end -}}

{{- define "playscale.s3.endpoint" -}}
{{- if .Values.s3.deploy -}}
http://{{ include "playscale.s3.name" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}:{{ .Values.s3.port }}
{{- else -}}
{{ .Values.s3.endpoint }}
{{- end -}}
{{- end -}}

{{- define "playscale.s3.secret" -}}
{{- .Values.s3.existingSecret | default .Values.pipeline.secretName -}}
{{- end -}}

{{/* boto3's variables for a service that refuses its checksums, as a mapping. */}}
{{- define "playscale.s3.checksums" -}}
{{- if eq .Values.s3.checksums "when_required" -}}
AWS_REQUEST_CHECKSUM_CALCULATION: when_required
AWS_RESPONSE_CHECKSUM_VALIDATION: when_required
{{- end -}}
{{- end -}}

{{/* Whether this chart makes the Secret of S3 keys: "true" or "". */}}
{{- define "playscale.s3.makesSecret" -}}
{{- if not (or .Values.s3.existingSecret .Values.s3.ambientCredentials) -}}true{{- end -}}
{{- end -}}

{{/* Changes when a setting or a Secret of this chart does, so that pods are replaced. */}}
{{- define "playscale.checksum" -}}
{{- $made := list -}}
{{- range list "secrets" "settings" "login" -}}
{{- $made = append $made (include (printf "%s/%s.yaml" $.Template.BasePath .) $) -}}
{{- end -}}
{{- $made | join "\n" | sha256sum -}}
{{- end -}}

{{/* Variables of the server: the chart's own, without those that extraEnv has too, then extraEnv's. */}}
{{- define "playscale.mlflow.env" -}}
{{- $given := list -}}
{{- range .Values.mlflow.extraEnv -}}
{{- $given = append $given .name -}}
{{- end -}}
{{- $env := list -}}
{{- range include "playscale.mlflow.ownEnv" . | fromYamlArray -}}
{{- if not (has .name $given) -}}
{{- $env = append $env . -}}
{{- end -}}
{{- end -}}
{{- concat $env .Values.mlflow.extraEnv | toYaml -}}
{{- end -}}

{{- define "playscale.mlflow.ownEnv" -}}
- name: POD_IP
  valueFrom:
    fieldRef: {fieldPath: status.podIP}
{{ include "playscale.postgres.env" . }}
{{ include "playscale.mlflow.s3Env" . }}
# its job runner starts further processes, three times the memory, for features that are not used here
- {name: MLFLOW_SERVER_ENABLE_JOB_EXECUTION, value: "false"}
- {name: HOME, value: /tmp}
{{- if include "playscale.auth" . }}
- {name: MLFLOW_AUTH_CONFIG_PATH, value: /etc/mlflow/auth.ini}
{{- $secret := include "playscale.auth.secret" . }}
{{- range list (list "MLFLOW_AUTH_ADMIN_USERNAME" "username") (list "MLFLOW_AUTH_ADMIN_PASSWORD" "password") (list "MLFLOW_FLASK_SERVER_SECRET_KEY" "secret-key") }}
- name: {{ first . }}
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ last . }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* The bucket's address, and its keys as the server has them. */}}
{{- define "playscale.mlflow.s3Env" -}}
{{- if not .Values.s3.ambientCredentials -}}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.mlflow.existingS3Secret | default (include "playscale.s3.secret" $) }}, key: {{ . }}}
{{- end }}
{{- end }}
{{- with include "playscale.s3.endpoint" . }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
- {name: MLFLOW_S3_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
- {name: AWS_DEFAULT_REGION, value: {{ .Values.s3.region }}}
{{- range include "playscale.s3.checksums" . | fromYaml | keys | sortAlpha }}
- {name: {{ . }}, value: when_required}
{{- end }}
{{- end -}}

{{/* What libpq reads beside the URI. The image's public authorities are named: psycopg2 brings an OpenSSL that knows none. */}}
{{- define "playscale.postgres.env" -}}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef: {name: {{ include "playscale.postgres.secret" . }}, key: {{ include "playscale.postgres.key" . }}}
{{- if hasPrefix "verify-" (include "playscale.postgres.sslMode" .) }}
- {name: PGSSLROOTCERT, value: {{ ternary "/etc/postgres-ca/ca.crt" "/etc/ssl/certs/ca-certificates.crt" (ne .Values.postgres.caSecret "") }}}
{{- end }}
{{- end -}}

{{- define "playscale.postgres.mounts" -}}
{{- if .Values.postgres.caSecret -}}
- {name: postgres-ca, mountPath: /etc/postgres-ca, readOnly: true}
{{- end -}}
{{- end -}}

{{- define "playscale.postgres.volumes" -}}
{{- with .Values.postgres.caSecret -}}
- name: postgres-ca
  secret:
    secretName: {{ . }}
    items:
      - {key: {{ $.Values.postgres.caKey | quote }}, path: ca.crt}
{{- end -}}
{{- end -}}

{{- define "playscale.mlflow.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- with include "playscale.postgres.mounts" . }}
{{ . }}
{{- end }}
{{- if include "playscale.auth" . }}
- {name: auth, mountPath: /etc/mlflow, readOnly: true}
{{- end }}
{{- with .Values.mlflow.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "playscale.mlflow.volumes" -}}
- name: tmp
  emptyDir: {}
{{- with include "playscale.postgres.volumes" . }}
{{ . }}
{{- end }}
{{- if include "playscale.auth" . }}
- name: auth
  configMap: {name: {{ include "playscale.mlflow.name" . }}-auth}
{{- end }}
{{- with .Values.mlflow.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* How replicas are spread over the cluster; "" where their affinity says. */}}
{{- define "playscale.mlflow.spread" -}}
{{- $own := dict "labelSelector" (dict "matchLabels" (include "playscale.selector" (list . "mlflow") | fromYaml)) -}}
{{- $wanted := .Values.mlflow.topologySpreadConstraints -}}
{{- if not (or $wanted .Values.mlflow.affinity) -}}
{{- $wanted = list (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway") -}}
{{- end -}}
{{- $spread := list -}}
{{- range $wanted -}}
{{- $spread = append $spread (merge (dict) . $own) -}}
{{- end -}}
{{- with $spread }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* oauth2-proxy: pages send their users to the provider, requests of the API without a login get 401, tokens of the provider pass. */}}
{{- define "playscale.oidc.container" -}}
{{- $oidc := .Values.mlflow.oidc -}}
- name: oauth2-proxy
  image: {{ $oidc.image }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args:
    - --http-address=0.0.0.0:{{ $oidc.port }}
    - --upstream=http://127.0.0.1:{{ .Values.mlflow.port }}
    # an artifact may take its time
    - --upstream-timeout=1h
    - --reverse-proxy=true
    - --provider=oidc
    - --skip-provider-button=true
    - --skip-jwt-bearer-tokens=true
    - --api-route=^/(api|ajax-api)/
    - --oidc-issuer-url={{ required "mlflow.oidc.issuer: name the OpenID provider" $oidc.issuer }}
    {{- range $oidc.emailDomains | default (list) }}
    - {{ printf "--email-domain=%s" . | quote }}
    {{- else }}
    {{- fail "mlflow.oidc.emailDomains: name the domains whose users may enter, or [\"*\"] for all of the provider's" }}
    {{- end }}
    {{- range $oidc.allowedGroups }}
    - {{ printf "--allowed-group=%s" . | quote }}
    {{- end }}
    {{- range $oidc.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    {{- $secret := required "mlflow.oidc.existingSecret: name a Secret with client-id, client-secret and cookie-secret" $oidc.existingSecret }}
    {{- range list (list "OAUTH2_PROXY_CLIENT_ID" "client-id") (list "OAUTH2_PROXY_CLIENT_SECRET" "client-secret") (list "OAUTH2_PROXY_COOKIE_SECRET" "cookie-secret") }}
    - name: {{ first . }}
      valueFrom:
        secretKeyRef: {name: {{ $secret }}, key: {{ last . }}}
    {{- end }}
  ports:
    - {name: login, containerPort: {{ $oidc.port }}}
  readinessProbe:
    httpGet: {path: /ready, port: login}
    periodSeconds: 5
  livenessProbe:
    httpGet: {path: /ping, port: login}
    periodSeconds: 15
  securityContext: {{- toYaml .Values.mlflow.containerSecurityContext | nindent 4 }}
  resources: {{- toYaml $oidc.resources | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
{{- end -}}

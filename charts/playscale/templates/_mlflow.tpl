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

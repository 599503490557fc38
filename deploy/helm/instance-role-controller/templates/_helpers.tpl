{{/* The name of the chart in labels. */}}
{{- define "irc.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of objects: the release's, with the chart's where it is not in it already. Room is left for suffixes. */}}
{{- define "irc.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" }}
{{- else }}
{{- $name := include "irc.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 45 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "irc.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "irc.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "irc.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: with serviceAccount.create=false name the account that is there" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* What chooses the controller's pods; can never be changed in a cluster. */}}
{{- define "irc.selectorLabels" -}}
app.kubernetes.io/name: {{ include "irc.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{/* Labels of every object; (list $ component), the component may be empty. */}}
{{- define "irc.labels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ include "irc.name" $ }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/part-of: instance-role-controller
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with $.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Rights to bindings: in all namespaces, or in those that are watched. A dry run touches no binding but its status. */}}
{{- define "irc.bindingRules" -}}
# `patch` is for metadata.finalizers. RBAC cannot part it from spec: the guard does.
- apiGroups: [instancerole.dev]
  resources: [instancerolebindings]
  verbs: [get, list, watch{{ if not .Values.dryRun }}, patch{{ end }}]
# Server-side apply is a patch.
- apiGroups: [instancerole.dev]
  resources: [instancerolebindings/status]
  verbs: [patch]
# Asked for by clusters that run the OwnerReferencesPermissionEnforcement admission plugin.
- apiGroups: [instancerole.dev]
  resources: [instancerolebindings/finalizers]
  verbs: [update]
# A repeated event is patched into a series instead of being written again.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{- define "irc.subjects" -}}
- kind: ServiceAccount
  name: {{ include "irc.serviceAccountName" . }}
  namespace: {{ include "irc.namespace" . }}
{{- end }}

{{/* A file of ours with the names that it has in this release. */}}
{{- define "irc.adapted" -}}
{{- $ := index . 0 -}}
{{- $.Files.Get (index . 1)
  | replace "^system:serviceaccount:[^:]+:instance-role-controller$" (printf "^system:serviceaccount:[^:]+:%s$" (include "irc.serviceAccountName" $))
  | replace "system:serviceaccount:instance-role-system:instance-role-controller" (printf "system:serviceaccount:%s:%s" (include "irc.namespace" $) (include "irc.serviceAccountName" $)) }}
{{- end }}

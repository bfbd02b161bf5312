{{/* The name of everything that the chart makes: the release's, with the chart's in it. */}}
{{- define "whsentry.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) }}{{ $name = printf "%s-%s" $name .Chart.Name }}{{ end -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{/* What a pod of this release is known by. It can never change. */}}
{{- define "whsentry.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "whsentry.labels" -}}
{{ include "whsentry.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* config.yaml */}}
{{- define "whsentry.config" -}}
{{- if hasKey .Values.config "shutdownTimeout" }}{{ fail "config.shutdownTimeout: how long a pod has to stop must agree with it; want drain.shutdownSeconds instead" }}{{ end -}}
{{- $drain := dict "shutdownTimeout" (printf "%ds" (int .Values.drain.shutdownSeconds)) -}}
{{- include "whsentry.checkPorts" . -}}
{{- mustMerge $drain .Values.config | toYaml -}}
{{- end }}

{{/* The port at the end of an address. */}}
{{- define "whsentry.portOf" -}}
{{- regexFind "[0-9]+$" (toString .) -}}
{{- end }}

{{/* Fails unless the Service's ports are those that config has listeners on, and metricsPort the one of metrics.address. */}}
{{- define "whsentry.checkPorts" -}}
{{- $listeners := list -}}
{{- if hasKey .Values.config "listeners" -}}
{{- range .Values.config.listeners }}{{ $listeners = append $listeners (include "whsentry.portOf" .address) }}{{ end -}}
{{- else -}}
{{- $listeners = list (include "whsentry.portOf" (dig "listener" "address" ":9090" .Values.config)) -}}
{{- end -}}
{{- $ports := list -}}
{{- range .Values.ports }}{{ $ports = append $ports (toString (int .)) }}{{ end -}}
{{- if ne (sortAlpha $listeners | join " ") (sortAlpha $ports | join " ") -}}
{{- fail (printf "ports: %s: config has listeners on %s; want the same ports" (sortAlpha $ports | join " ") (sortAlpha $listeners | join " ")) -}}
{{- end -}}
{{- $metrics := include "whsentry.portOf" (dig "metrics" "address" ":2112" .Values.config) -}}
{{- if ne $metrics (toString (int .Values.metricsPort)) -}}
{{- fail (printf "metricsPort: %d: config.metrics.address has the port %q; want the same" (int .Values.metricsPort) $metrics) -}}
{{- end -}}
{{- range .Values.env }}
{{- if has .name (list "WHSENTRY_LISTENER_ADDRESS" "WHSENTRY_METRICS_ADDRESS" "WHSENTRY_SHUTDOWN_TIMEOUT") }}{{ fail (printf "env: %s: want config, which the Service goes by" .name) }}{{ end -}}
{{- end -}}
{{- end }}

{{/* Nine tenths of the memory limit, in bytes; nothing where there is no limit. */}}
{{- define "whsentry.goMemoryLimit" -}}
{{- $limit := dig "limits" "memory" "" .Values.resources -}}
{{- if not (kindIs "string" $limit) }}{{ $limit = int64 $limit | toString }}{{ end -}}
{{- if $limit -}}
{{- $factor := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[A-Za-z]*$" $limit -}}
{{- if not (and (regexMatch "^[0-9]+([.][0-9]+)?[A-Za-z]*$" $limit) (hasKey $factor $unit)) -}}
{{- fail (printf "resources.limits.memory: %q: not understood; want a number with one of k, M, G, T, Ki, Mi, Gi, Ti or no unit" $limit) -}}
{{- end -}}
{{- mulf (trimSuffix $unit $limit | float64) (get $factor $unit) 0.9 | int64 -}}
{{- end -}}
{{- end }}

{{/* An address or prefix as a prefix. */}}
{{- define "whsentry.prefix" -}}
{{- if contains "/" . }}{{ . }}{{ else }}{{ . }}/{{ ternary 128 32 (contains ":" .) }}{{ end -}}
{{- end }}

{{/* The egress rule for the cluster's name servers. */}}
{{- define "whsentry.dnsRule" -}}
- to:
    - namespaceSelector:
        matchLabels: {{- toYaml .Values.networkPolicy.dns.namespaceLabels | nindent 10 }}
      podSelector:
        matchLabels: {{- toYaml .Values.networkPolicy.dns.podLabels | nindent 10 }}
    {{- range .Values.networkPolicy.dns.addresses }}
    - ipBlock: {cidr: {{ include "whsentry.prefix" . | quote }}}
    {{- end }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

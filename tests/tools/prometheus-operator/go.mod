// The CRDs of ServiceMonitor and PrometheusRule lie in this module. It is fetched, not built: `go mod tidy` would drop it.
module instancerole.dev/tools/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0

//go:build linux

package main

import (
	"encoding/json"
	"slices"
	"strings"
)

// promisedMetrics are the names that the contract lists; histograms by their buckets.
var promisedMetrics = []string{
	"whsentry_requests_total", "whsentry_request_duration_seconds_bucket", "whsentry_phase_duration_seconds_bucket",
	`whsentry_phase_duration_seconds_count{phase="dns"}`, `whsentry_phase_duration_seconds_count{phase="connect"}`,
	`whsentry_phase_duration_seconds_count{phase="tls"}`, `whsentry_phase_duration_seconds_count{phase="first_byte"}`,
	"whsentry_client_connections", "whsentry_client_connections_total",
	`whsentry_destination_connections{state="busy"}`, `whsentry_destination_connections{state="idle"}`,
	"whsentry_destination_connections_opened_total", "whsentry_destination_connections_reused_total",
	"whsentry_destination_connections_closed_total", "whsentry_refused_addresses_total", "whsentry_request_bytes_total",
	"whsentry_response_bytes_total", "whsentry_buffered_bytes", "whsentry_tunnels", "whsentry_tunnels_total",
	`whsentry_dns_lookups_total{result="ok"}`, `whsentry_dns_lookups_total{result="cached"}`,
	`whsentry_dns_lookups_total{result="failed"}`, "whsentry_trust_store_roots", "whsentry_trust_store_timestamp_seconds",
	"whsentry_trust_store_refreshes_total", "whsentry_config_reloads_total", "whsentry_log_errors_total",
	"whsentry_build_info", "go_goroutines", "process_resident_memory_bytes",
}

// promisedKeys are those of a JSON access-log line, always and where they apply.
var promisedKeys = []string{
	"time", "rq_id", "client_addr", "method", "url", "response_code", "response_time_ms", "reason_code", "reason", "upstream_addr",
	"conn_reused", "tls_version", "request_bytes", "response_bytes", "dns_ms", "connect_ms", "tls_ms", "first_byte_ms",
}

// keysOf says what is wrong with the keys of a log line; "" if nothing is.
func keysOf(raw []byte, status int) string {
	var entry map[string]any
	if json.Unmarshal(raw, &entry) != nil {
		return "a line that is no JSON object"
	}
	for key := range entry {
		if !slices.Contains(promisedKeys, key) {
			return "a line with the key " + key
		}
	}
	needed := []string{"time", "rq_id", "client_addr", "response_code", "response_time_ms"}
	_, refused := entry["reason_code"]
	switch url, _ := entry["url"].(string); {
	case refused:
		needed = append(needed, "reason")
	case status == 200 && strings.HasPrefix(url, "http://"):
		needed = append(needed, "method", "upstream_addr", "conn_reused", "request_bytes", "response_bytes", "first_byte_ms")
	}
	for _, key := range needed {
		if _, there := entry[key]; !there {
			return "a line of a request like others without " + key + ": " + string(raw)
		}
	}
	return ""
}

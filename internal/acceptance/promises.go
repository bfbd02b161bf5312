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
	`whsentry_requests_total{status="502",reason="1001",source="proxy"}`, "whsentry_client_requests_total",
	"whsentry_limit_reached_total", "whsentry_breakers_open", "whsentry_untidy_responses_total", "whsentry_requests_in_flight",
	"whsentry_memory_limit_bytes", "whsentry_build_info", "go_goroutines", "process_resident_memory_bytes",
}

// promisedKeys are those of a JSON access-log line, always and where they apply.
var promisedKeys = []string{
	"time", "rq_id", "client_addr", "client", "method", "url", "response_code", "response_time_ms", "reason_code", "reason",
	"source", "delivered", "received_status", "untidy", "closed", "would_deny", "upstream_addr", "conn_reused", "tls_version",
	"trace_id", "request_bytes", "response_bytes", "dns_ms", "connect_ms", "tls_ms", "first_byte_ms",
}

// outcomeKeys are those that only a line with a reason has, but for `delivered` of a client that went away.
var outcomeKeys = []string{"reason", "source", "delivered", "received_status"}

// keysOf says what is wrong with the keys of a log line; "" if nothing is. untidy is whether the destination's answer was.
func keysOf(raw []byte, status int, untidy bool) string {
	var entry map[string]any
	if json.Unmarshal(raw, &entry) != nil {
		return "a line that is no JSON object"
	}
	needed := []string{"time", "rq_id", "client_addr", "response_code", "response_time_ms"}
	allowed := promisedKeys
	_, refused := entry["reason_code"]
	switch url, _ := entry["url"].(string); {
	case refused:
		needed = append(needed, "reason", "source", "delivered")
		if entry["delivered"] == "yes" {
			needed = append(needed, "received_status")
		}
	case status != 499:
		allowed = slices.DeleteFunc(slices.Clone(allowed), func(key string) bool { return slices.Contains(outcomeKeys, key) })
		if status == 200 && strings.HasPrefix(url, "http://") {
			needed = append(needed, "method", "upstream_addr", "conn_reused", "request_bytes", "response_bytes", "first_byte_ms")
		}
	}
	if untidy {
		needed = append(needed, "untidy")
	} else {
		allowed = slices.DeleteFunc(slices.Clone(allowed), func(key string) bool { return key == "untidy" })
	}
	for key := range entry {
		if !slices.Contains(allowed, key) {
			return "a line with the key " + key + ": " + string(raw)
		}
	}
	for _, key := range needed {
		if _, there := entry[key]; !there {
			return "a line of a request like others without " + key + ": " + string(raw)
		}
	}
	return ""
}

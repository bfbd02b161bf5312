//go:build linux

package main

import (
	"errors"
	"fmt"
)

// tidied holds what came of an untidy answer to a whole message with one framing.
func tidied(answer *message) error {
	if length := answer.get("Content-Length"); answer.Chunked && length != "" {
		return fmt.Errorf("Content-Length %s beside chunks: %q", length, answer.Fields)
	}
	return want("body", string(answer.Body), "untidy")
}

// untidyCounted holds the metric of untidy answers to those that were sent.
func (l *loadTest) untidyCounted() error {
	samples, err := l.s.scrape()
	if err != nil {
		return err
	}
	sent := 0
	for _, k := range l.jobs {
		if kinds[k].name == untidy {
			sent++
		}
	}
	metric := func(what string) int { return int(samples[`whsentry_untidy_responses_total{what="`+what+`"}`]) }
	return errors.Join(want("bare_lf", metric("bare_lf"), sent), want("length_beside_chunked", metric("length_beside_chunked"), sent),
		want("untidy in all", int(sum(samples, "whsentry_untidy_responses_total")), 2*sent))
}

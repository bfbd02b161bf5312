package policy

import (
	"time"

	"golang.org/x/time/rate"
)

// Policy is what one configuration says. It is safe for concurrent use; a new configuration is a new Policy.
type Policy struct {
	checks *rate.Limiter
}

// New returns the Policy of cfg. Counters, rates and breakers go on from previous, which is left as it is and may be
// nil. An error is a *ConfigError.
func New(cfg Config, previous *Policy, now time.Time) (*Policy, error) {
	return &Policy{checks: rate.NewLimiter(20, 20)}, nil
}

package settings

import (
	"cmp"
	"errors"
	"math"

	"whsentry/policy"
	"whsentry/proxy"
)

// The formats of what has limits. The packages' Validate hold their values to the same, but have them no more as they
// were written: an error is to show 17MiB, not 17825792.
var (
	durationsAboveZero = within(durations, 1, math.MaxInt64, "not above 0", durations.want)
	durationsFromZero  = within(durations, 0, math.MaxInt64, "negative", durations.want+", or 0s")
	openDurations      = within(durations, 1, policy.MaxOpenFor, "not above 0 and at most 10m", durations.want)
	sizesAboveZero     = within(sizes, 1, math.MaxInt64, "not above 0", sizes.want)
	headSizes          = within(sizes, proxy.MinHeaderSize, proxy.MaxHeaderSize, "out of range", "256 bytes to 16MiB, such as 65536 or 64KiB")
)

// within returns f for values from least to most alone; what is said of others is problem and want.
func within[T cmp.Ordered](f format[T], least, most T, problem, want string) format[T] {
	parse := f.parse
	f.want = want
	f.parse = func(s string) (T, error) {
		value, err := parse(s)
		if err == nil && (value < least || value > most) {
			err = errors.New(problem)
		}
		return value, err
	}
	return f
}

package settings

import (
	"fmt"
	"regexp"
	"strings"
)

// Environ is the environment of a process, as os.Environ returns it.
type Environ []string

// Get returns the value of a variable; "" where there is none.
func (e Environ) Get(name string) string {
	for _, variable := range e {
		if key, value, _ := strings.Cut(variable, "="); key == name {
			return value
		}
	}
	return ""
}

const variablePrefix = "WHSENTRY_"

// ofService are the variables that Kubernetes makes of a Service that is called whsentry, or whsentry-metrics.
var ofService = regexp.MustCompile(`^WHSENTRY_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// ofServiceValue begins the values of the others.
var ofServiceValue = regexp.MustCompile(`^(tcp|udp|sctp)://`)

// check finds a variable that looks like a setting and is none.
func (e Environ) check() error {
	var known []string
	for _, st := range Flags() {
		known = append(known, st.Variable())
	}
	for _, variable := range e {
		name, value, _ := strings.Cut(variable, "=")
		if value == "" || !strings.HasPrefix(name, variablePrefix) || ofService.MatchString(name) || ofServiceValue.MatchString(value) {
			continue
		}
		if err := checkVariable(name, value, known); err != nil {
			return err
		}
	}
	return nil
}

func checkVariable(name, value string, known []string) error {
	for _, k := range known {
		if k == name {
			return nil
		}
	}
	for _, st := range FileOnly() {
		if st.Variable() == name {
			return fmt.Errorf("%s: not a variable; want %s in a configuration file", name, st.Key)
		}
	}
	if strings.Contains(name, "TOKEN") {
		value = "..."
	}
	if near := Nearest(name, known); near != "" {
		return fmt.Errorf("%s: %s: unknown variable; did you mean %s?", Quote(name), Quote(value), near)
	}
	return fmt.Errorf("%s: %s: unknown variable; want one that whsentry --help lists", Quote(name), Quote(value))
}

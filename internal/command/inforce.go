package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"whsentry/proxy"
)

// inForce lists the settings for the status page, with cfg for the proxy's part of them: what cannot change while it
// runs, the proxy has kept. Of files there are the names, and URLs are without what may be secret in them.
func (s *settings) inForce(cfg proxy.Config) []proxy.Setting {
	shown := *s
	shown.proxy = cfg
	origin, several := s.origin["listeners"]
	several = several || len(cfg.Listeners) != 1
	if !several {
		shown.listener = cfg.Listeners[0]
	}
	var list []proxy.Setting
	add := func(key, value, origin string) {
		list = append(list, proxy.Setting{Key: key, Value: printable(value), Origin: printable(origin)})
	}
	for i := range table {
		st := &table[i]
		switch {
		case st.key == "listeners" && several:
			for i, l := range cfg.Listeners {
				add(fmt.Sprintf("listeners[%d]", i), describeListener(l), origin)
			}
		case st.key == "clientCerts":
			for _, alias := range slices.Sorted(maps.Keys(s.ca.ClientCerts)) {
				pair := s.ca.ClientCerts[alias]
				add("clientCerts."+alias, "certFile "+pair.CertFile+", keyFile "+pair.KeyFile, s.origin["clientCerts"])
			}
		case st.structure, several && strings.HasPrefix(st.key, "listener."):
		case st.placeholder == urls.placeholder:
			add(st.key, proxy.RedactURL(st.show(&shown)), s.origin[st.key])
		default:
			add(st.key, st.show(&shown), s.origin[st.key])
		}
	}
	return list
}

// describeListener names what an endpoint has that is not the default.
func describeListener(l proxy.ListenerConfig) string {
	this, plain := settings{listener: l}, settings{}
	plain.listener.Type = proxy.ListenerHTTP
	var parts []string
	for i := range table {
		st := &table[i]
		name, ok := strings.CutPrefix(st.key, "listener.")
		if ok && !slices.Equal(st.get(&this), st.get(&plain)) {
			parts = append(parts, name+" "+st.show(&this))
		}
	}
	return strings.Join(parts, ", ")
}

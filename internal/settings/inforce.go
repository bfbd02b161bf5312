package settings

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"whsentry/proxy"
	"whsentry/proxy/admin"
	"whsentry/proxy/listen"
)

// InForce lists the settings for the status page, with cfg for the proxy's part of them: what cannot change while it
// runs, the proxy has kept. Of files there are the names, and URLs are without what may be secret in them.
func (s *Settings) InForce(cfg proxy.Config) []admin.Setting {
	shown := *s
	shown.Proxy = cfg
	origin, several := s.origin["listeners"]
	several = several || len(cfg.Listeners) != 1
	if !several {
		shown.listener = cfg.Listeners[0]
	}
	var list []admin.Setting
	add := func(key, value, origin string) {
		list = append(list, admin.Setting{Key: key, Value: Printable(value), Origin: Printable(origin)})
	}
	for i := range table {
		st := &table[i]
		switch {
		case st.Key == "listeners" && several:
			for i, l := range cfg.Listeners {
				add(fmt.Sprintf("listeners[%d]", i), describeListener(l), origin)
			}
		case st.Key == "clientCerts":
			for _, alias := range slices.Sorted(maps.Keys(s.CA.ClientCerts)) {
				pair := s.CA.ClientCerts[alias]
				add("clientCerts."+alias, "certFile "+pair.CertFile+", keyFile "+pair.KeyFile, s.origin["clientCerts"])
			}
		case st.Structure, several && strings.HasPrefix(st.Key, "listener."):
		case st.Placeholder == urls.placeholder:
			add(st.Key, admin.RedactURL(st.show(&shown)), s.origin[st.Key])
		default:
			add(st.Key, st.show(&shown), s.origin[st.Key])
		}
	}
	return list
}

// describeListener names what an endpoint has that is not the default.
func describeListener(l listen.Config) string {
	this, plain := Settings{listener: l}, Settings{}
	plain.listener.Type = listen.HTTP
	var parts []string
	for i := range table {
		st := &table[i]
		name, ok := strings.CutPrefix(st.Key, "listener.")
		if ok && !slices.Equal(st.get(&this), st.get(&plain)) {
			parts = append(parts, name+" "+st.show(&this))
		}
	}
	return strings.Join(parts, ", ")
}

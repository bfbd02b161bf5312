package command

import (
	"net"
	"net/netip"
	"runtime/debug"
	"syscall"

	"whsentry/internal/settings"
)

// announce logs where the proxy listens and what is unsafe about it.
func (s *service) announce() {
	var listening []string
	for _, addr := range s.proxy.Addrs() {
		listening = append(listening, addr.String())
	}
	metrics := "off"
	if addr := s.proxy.MetricsAddr(); addr != nil {
		metrics = addr.String()
	}
	started := s.log.Info().Str("version", version).Strs("listening", listening).Str("metrics", metrics)
	// Go has raised the limit of open files to what the system allows by now.
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		started = started.Uint64("open_files_limit", uint64(limit.Cur))
	}
	started.Msg("started")
	// A client's connection has one to its destination beside it.
	if wanted := 2 * uint64(s.settings.Proxy.MaxConnections); limit.Cur > 0 && uint64(limit.Cur) < wanted {
		s.log.Warn().Uint64("open_files_limit", uint64(limit.Cur)).Uint64("wanted", wanted).
			Msg("the limit of open files is too low for maxConnections")
	}
	s.announceMemory()
	s.warnOfProxyProtocol(s.settings)
	s.warnOfOpenListeners(s.settings)
	s.warnOfInsecure(s.settings)
	s.warnOfRules(s.settings)
}

// announceMemory says what the limits of memory are, and what they were chosen by.
func (s *service) announceMemory() {
	s.log.Info().Uint64("memory", s.app.memory).Int64("maxBufferedBytes", s.settings.Proxy.MaxBufferedBytes).
		Int64("GOMEMLIMIT", debug.SetMemoryLimit(-1)).Msg("limits of memory, in bytes")
}

// warnOfOpenListeners names the listeners that whoever reaches this host may send through.
func (s *service) warnOfOpenListeners(cfg *settings.Settings) {
	if cfg.Policy.Clients != nil {
		return
	}
	var open []string
	for _, l := range cfg.Proxy.Listeners {
		if l.ClientCAFile == "" && onAllAddresses(l.Address) {
			open = append(open, l.Address)
		}
	}
	if len(open) > 0 {
		s.log.Warn().Strs("listeners", open).
			Msg("everybody who reaches this host may send: want clients, clientCAFile, or an address that only senders reach")
	}
}

// onAllAddresses reports whether a listener at address is reached by every address of this host.
func onAllAddresses(address string) bool {
	host, _, err := net.SplitHostPort(address)
	addr, _ := netip.ParseAddr(host)
	return err == nil && (host == "" || addr.IsUnspecified())
}

// warnOfRules names rules that can never apply.
func (s *service) warnOfRules(cfg *settings.Settings) {
	for _, err := range cfg.Warnings() {
		s.log.Warn().Msg(settings.Printable(err.Error()))
	}
}

func (s *service) warnOfProxyProtocol(cfg *settings.Settings) {
	for _, l := range cfg.Proxy.Listeners {
		if l.ProxyProtocol && len(l.ProxyProtocolFrom) == 0 {
			s.log.Warn().Str("listener", l.Address).Msg("proxyProtocol is set, but proxyProtocolFrom names nobody to take it from")
		}
	}
}

func (s *service) warnOfInsecure(cfg *settings.Settings) {
	if cfg.Guard.InsecureSkipDenyList {
		s.log.Warn().Msg("insecureSkipCidrDenyList is set: every address is let through, those of this network included")
	}
	if cfg.CA.InsecureSkipVerify {
		s.log.Warn().Msg("insecureSkipCertVerification is set: any certificate of a destination is accepted")
	}
}

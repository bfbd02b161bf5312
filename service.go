package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/proxy"
)

// service is the running proxy with what it was made of.
type service struct {
	app      *app
	load     func() (*settings, error)
	settings *settings // in use
	started  *settings // at the start, for what cannot change since
	logFile  *logFile
	log      zerolog.Logger
	metrics  *proxy.Metrics
	store    *ca.Store
	proxy    *proxy.Proxy
	manager  manager
}

// serve runs the proxy with the settings that load returns, until a signal ends it.
func (a *app) serve(load func() (*settings, error)) error {
	signals := make(chan os.Signal, 8)
	a.notify(signals)
	s := &service{app: a, load: load, manager: manager(a.getenv(notifyVariable))}
	if err := s.start(); err != nil {
		return err
	}
	defer s.close()
	return s.serve(signals)
}

// start makes the parts, in the order in which they need each other. Where it fails nothing is left open.
func (s *service) start() (err error) {
	var sockets *proxy.Sockets
	if s.app.sockets != nil {
		if sockets, err = s.app.sockets(); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil {
			sockets.Close()
		}
	}()
	if s.settings, err = s.load(); err != nil {
		return err
	}
	if s.logFile, err = openLogFile(s.settings.log.File, s.app.stdout); err != nil {
		return s.settings.locate(err)
	}
	defer func() {
		if err != nil {
			s.logFile.Close()
		}
	}()
	s.metrics = proxy.NewMetrics(version, buildCommit())
	s.logFile.failed, s.logFile.warn = s.metrics.LogFailed, s.app.warn
	s.log = s.settings.log.logger(s.logFile)
	deps, err := s.dependencies(s.settings, s.log)
	if err != nil {
		return s.settings.locate(err)
	}
	deps.Sockets = sockets
	if s.proxy, err = proxy.New(s.settings.proxy, deps); err != nil {
		deps.CA.Close()
		return s.settings.locate(err)
	}
	s.store, s.started = deps.CA, s.settings
	s.store.Start(context.Background()) // ends with close
	s.announce()
	return nil
}

// dependencies makes the guard and the certificates that settings describe.
func (s *service) dependencies(settings *settings, log zerolog.Logger) (proxy.Dependencies, error) {
	g, err := guard.New(settings.guard, s.metrics.GuardHooks())
	if err != nil {
		return proxy.Dependencies{}, err
	}
	hooks := s.caHooks(log)
	if hooks.Dial, err = dialStrangers(settings.guard); err != nil {
		return proxy.Dependencies{}, err
	}
	open := ca.New
	if s.store != nil {
		open = s.store.Reload // which goes on with what the one in use has learned
	}
	store, err := open(settings.ca, hooks)
	if err != nil {
		return proxy.Dependencies{}, err
	}
	return proxy.Dependencies{
		Guard: g, Dialer: guard.NewDialer(g), CA: store, Log: log, Metrics: s.metrics, Settings: settings.inForce,
	}, nil
}

// dialStrangers returns a way to what certificates of strangers name: past the guard without its allow list, or they would
// choose what is asked for in a private network.
func dialStrangers(cfg guard.Config) (func(ctx context.Context, host string, port uint16) (net.Conn, error), error) {
	cfg.AllowList = nil
	g, err := guard.New(cfg, guard.Hooks{})
	if err != nil {
		return nil, err
	}
	dialer := guard.NewDialer(g)
	return func(ctx context.Context, host string, port uint16) (net.Conn, error) {
		conn, _, err := dialer.Dial(ctx, host, port)
		return conn, err
	}, nil
}

// caHooks logs what the trust store reports, beside counting it, and sees to it that a changed one is used.
func (s *service) caHooks(log zerolog.Logger) ca.Hooks {
	hooks := s.metrics.CAHooks()
	hooks.Warn = func(err error) { log.Warn().Msg(printable(err.Error())) }
	hooks.Changed = func() { s.proxy.Retire() } // called only once the store is started, after the proxy is there
	count := hooks.Refreshed
	hooks.Refreshed = func(result ca.RefreshResult, err error) {
		count(result, err)
		if err != nil {
			log.Warn().Msg(printable(err.Error()))
			return
		}
		log.Info().Str("result", string(result)).Msg("looked for a newer trust store")
	}
	return hooks
}

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
	if wanted := 2 * uint64(s.settings.proxy.MaxConnections); limit.Cur > 0 && uint64(limit.Cur) < wanted {
		s.log.Warn().Uint64("open_files_limit", uint64(limit.Cur)).Uint64("wanted", wanted).
			Msg("the limit of open files is too low for maxConnections")
	}
	s.warnOfProxyProtocol(s.settings)
	s.warnOfInsecure(s.settings)
}

func (s *service) warnOfProxyProtocol(settings *settings) {
	for _, l := range settings.proxy.Listeners {
		if l.ProxyProtocol && len(l.ProxyProtocolFrom) == 0 {
			s.log.Warn().Str("listener", l.Address).Msg("proxyProtocol is set, but proxyProtocolFrom names nobody to take it from")
		}
	}
}

func (s *service) warnOfInsecure(settings *settings) {
	if settings.guard.InsecureSkipDenyList {
		s.log.Warn().Msg("insecureSkipCidrDenyList is set: every address is let through, those of this network included")
	}
	if settings.ca.InsecureSkipVerify {
		s.log.Warn().Msg("insecureSkipCertVerification is set: any certificate of a destination is accepted")
	}
}

// serve runs the proxy and obeys signals until one says stop.
func (s *service) serve(signals <-chan os.Signal) error {
	served := make(chan error, 1)
	go func() { served <- s.proxy.Serve() }() // ends with Shutdown, and is waited for here
	s.tell(s.manager.ready("serving"))
	for {
		select {
		case err := <-served:
			if err == nil {
				err = errors.New("the proxy ended without having been told to")
			}
			return err
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				s.reload()
				continue
			}
			s.log.Info().Stringer("signal", sig).Stringer("within", s.settings.proxy.ShutdownTimeout).Msg("stopping")
			s.tell(s.manager.stopping(s.settings.proxy.ShutdownTimeout + 2*shutdownPatience))
			s.stop(signals)
			return nil
		}
	}
}

// tell logs that the service manager could not be told something. The proxy goes on even so.
func (s *service) tell(err error) {
	if err != nil {
		s.log.Warn().Err(err).Msg("the service manager does not know how the proxy is doing")
	}
}

// shutdownPatience is for a Shutdown that has been told to be quick and is not.
const shutdownPatience = 5 * time.Second

// stop lets running requests finish for shutdownTimeout, or until a second signal.
func (s *service) stop(signals <-chan os.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), s.settings.proxy.ShutdownTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.proxy.Shutdown(ctx) }() // ends soon after ctx
	overdue := time.NewTimer(s.settings.proxy.ShutdownTimeout + shutdownPatience)
	defer overdue.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				s.log.Warn().Err(err).Msg("stopped before every request was finished")
				return
			}
			s.log.Info().Msg("stopped")
			return
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				continue
			}
			s.log.Warn().Stringer("signal", sig).Msg("stopping at once")
			cancel()
			overdue.Reset(shutdownPatience)
		case <-overdue.C:
			s.log.Error().Msg("stopped with requests still running")
			return
		}
	}
}

func (s *service) close() {
	s.store.Close()
	s.logFile.Close()
}

// reload reads everything again. What is wrong is logged, and all stays as it was.
func (s *service) reload() {
	s.tell(s.manager.reloading())
	if err := s.tryReload(); err != nil {
		// Whoever rotates logs must get new files even so.
		if same, openErr := openLogFile(s.settings.log.File, s.app.stdout); openErr == nil {
			s.logFile.replace(same)
		}
		s.proxy.ReloadFailed()
		s.log.Error().Err(err).Msg("not reloaded; the settings stay as they were")
		s.tell(s.manager.ready("serving; not reloaded: " + err.Error()))
		return
	}
	s.log.Info().Msg("reloaded")
	s.warnOfInsecure(s.settings)
	s.tell(s.manager.ready("serving"))
}

func (s *service) tryReload() error {
	next, err := s.load()
	if err != nil {
		return err
	}
	s.keepFixed(next)
	opened, err := openLogFile(next.log.File, s.app.stdout)
	if err != nil {
		return next.locate(err)
	}
	log := next.log.logger(s.logFile)
	deps, err := s.dependencies(next, log)
	if err != nil {
		opened.Close()
		return next.locate(err)
	}
	if err := s.proxy.Reload(next.proxy, deps); err != nil {
		deps.CA.Close()
		opened.Close()
		return next.locate(err)
	}
	s.logFile.replace(opened)
	s.store.Close()
	s.store, s.settings, s.log = deps.CA, next, log
	s.store.Start(context.Background()) // ends with close, or the next reload
	return nil
}

// keepFixed logs what cannot change while the proxy runs, and is asked to. The proxy keeps its part of it itself.
func (s *service) keepFixed(next *settings) {
	was := s.started
	for _, fixed := range []struct {
		key  string
		same bool
	}{
		{"listeners", slices.Equal(endpoints(was), endpoints(next))},
		{"metrics.address", was.proxy.MetricsAddress == next.proxy.MetricsAddress},
		{"accessLog.type", was.proxy.AccessLog.Type == next.proxy.AccessLog.Type},
		{"proxyLog.type", was.log.Type == next.log.Type},
	} {
		if !fixed.same {
			s.log.Warn().Str("key", fixed.key).Msg("cannot change without a restart; it stays as it was")
		}
	}
	next.log.Type = was.log.Type
}

// endpoints are the listeners without the files of their certificates, which are read again.
func endpoints(s *settings) []string {
	var list []string
	for _, l := range s.proxy.Listeners {
		list = append(list, fmt.Sprint(l.Type, l.Address, l.ReusePort, l.ProxyProtocol, l.ProxyProtocolFrom))
	}
	return list
}

// logConfig is where and how the proxy logs what it does itself (proxyLog).
type logConfig struct {
	Type  string // text or json
	File  string // appended to; "" is standard output
	Level string // debug, info, warn or error
}

func defaultLogConfig() logConfig {
	return logConfig{Type: proxy.LogText, Level: zerolog.LevelInfoValue}
}

func (c *logConfig) validate() error {
	if c.Type != proxy.LogText && c.Type != proxy.LogJSON {
		return fmt.Errorf("proxyLog.type: %q: not known; want text or json", c.Type)
	}
	switch c.Level {
	case zerolog.LevelDebugValue, zerolog.LevelInfoValue, zerolog.LevelWarnValue, zerolog.LevelErrorValue:
		return nil
	}
	return fmt.Errorf("proxyLog.level: %q: not known; want debug, info, warn or error", c.Level)
}

// logger returns a logger that writes to w as c says.
func (c *logConfig) logger(w io.Writer) zerolog.Logger {
	if c.Type == proxy.LogText {
		w = zerolog.ConsoleWriter{Out: w, NoColor: true, TimeFormat: time.RFC3339}
	}
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		panic("BUG: the log level was not validated: " + err.Error())
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

package command

import (
	"context"
	"crypto/tls"
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
	"whsentry/internal/settings"
	"whsentry/policy"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
	"whsentry/proxy/listen"
	"whsentry/proxy/metrics"
)

// service is the running proxy with what it was made of.
type service struct {
	app      *app
	load     func() (*settings.Settings, error)
	settings *settings.Settings // in use
	started  *settings.Settings // at the start, for what cannot change since
	logFile  *logFile
	log      zerolog.Logger
	metrics  *metrics.Metrics
	store    *ca.Store
	policy   *policy.Policy
	proxy    *proxy.Proxy
	manager  manager
}

// serve runs the proxy with the settings that load returns, until a signal ends it.
func (a *app) serve(load func() (*settings.Settings, error)) error {
	signals := make(chan os.Signal, 8)
	a.notify(signals)
	s := &service{app: a, load: load, manager: manager(a.environ.Get(notifyVariable))}
	if err := s.start(); err != nil {
		return err
	}
	defer s.close()
	defer a.paceCollector()()
	return s.serve(signals)
}

// start makes the parts, in the order in which they need each other. Where it fails nothing is left open.
func (s *service) start() (err error) {
	var sockets *listen.Sockets
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
	s.app.limitMemory()
	if s.logFile, err = openLogFile(s.settings.Log.File, s.app.stdout); err != nil {
		return s.settings.Locate(err)
	}
	defer func() {
		if err != nil {
			s.logFile.Close()
		}
	}()
	if err := growDescriptorTable(s.settings.Proxy.MaxConnections); err != nil {
		s.app.warn(err) // without it requests are slower for a while, no more
	}
	s.metrics = metrics.New(version, buildCommit())
	s.metrics.MemoryLimit.Store(int64(s.settings.Memory))
	s.logFile.failed, s.logFile.warn = s.metrics.LogFailed, s.app.warn
	s.log = newLogger(s.settings.Log, s.logFile)
	deps, err := s.dependencies(s.settings, s.log)
	if err != nil {
		return s.settings.Locate(err)
	}
	deps.Sockets = sockets
	if s.proxy, err = proxy.New(s.settings.Proxy, deps); err != nil {
		deps.CA.Close()
		return s.settings.Locate(err)
	}
	s.store, s.policy, s.started = deps.CA, deps.Policy, s.settings
	s.store.Start(context.Background()) // ends with close
	s.announce()
	return nil
}

// dependencies makes the guard, the certificates and the policy that settings describe.
func (s *service) dependencies(cfg *settings.Settings, log zerolog.Logger) (proxy.Dependencies, error) {
	g, err := guard.New(cfg.Guard, s.metrics.GuardHooks())
	if err != nil {
		return proxy.Dependencies{}, err
	}
	hooks := s.caHooks(log)
	if hooks.Dial, err = dialStrangers(cfg.Guard); err != nil {
		return proxy.Dependencies{}, err
	}
	open := ca.New
	if s.store != nil {
		open = s.store.Reload // which goes on with what the one in use has learned
	}
	store, err := open(cfg.CA, hooks)
	if err != nil {
		return proxy.Dependencies{}, err
	}
	rules, err := policy.New(cfg.Policy, s.policy, time.Now())
	if err != nil {
		store.Close()
		return proxy.Dependencies{}, err
	}
	return proxy.Dependencies{
		Guard: g, Dialer: guard.NewDialer(g), CA: store, Policy: rules, Log: log, Metrics: s.metrics, Settings: cfg.InForce, SettingsFile: cfg.File,
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
	hooks.Warn = func(err error) { log.Warn().Msg(settings.Printable(err.Error())) }
	// These are called only once the store is started, after the proxy is there.
	hooks.Changed = func() { s.proxy.Retire() }
	hooks.IssuerChanged = func() { s.proxy.RetireInterceptions() }
	hooks.ListenerChanged = func(old, now *tls.Config) { s.proxy.ReplaceListener(old, now) }
	count := hooks.Refreshed
	hooks.Refreshed = func(result ca.RefreshResult, err error) {
		count(result, err)
		if err != nil {
			log.Warn().Msg(settings.Printable(err.Error()))
			return
		}
		log.Info().Str("result", string(result)).Msg("looked for a newer trust store")
	}
	return hooks
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
			s.log.Info().Stringer("signal", sig).Stringer("within", s.settings.Proxy.ShutdownTimeout).Msg("stopping")
			s.tell(s.manager.stopping(s.settings.Proxy.ShutdownTimeout + 2*shutdownPatience))
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
	ctx, cancel := context.WithTimeout(context.Background(), s.settings.Proxy.ShutdownTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.proxy.Shutdown(ctx) }() // ends soon after ctx
	overdue := time.NewTimer(s.settings.Proxy.ShutdownTimeout + shutdownPatience)
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
		if same, openErr := openLogFile(s.settings.Log.File, s.app.stdout); openErr == nil {
			s.logFile.replace(same)
		}
		s.proxy.ReloadFailed()
		s.log.Error().Err(err).Msg("not reloaded; the settings stay as they were")
		s.tell(s.manager.ready("serving; not reloaded: " + err.Error()))
		return
	}
	s.log.Info().Msg("reloaded")
	s.warnOfInsecure(s.settings)
	s.warnOfProxyProtocol(s.settings)
	s.warnOfRules(s.settings)
	s.tell(s.manager.ready("serving"))
}

func (s *service) tryReload() error {
	next, err := s.load()
	if err != nil {
		return err
	}
	if file := s.settings.File; file != "" && next.File == "" { // the defaults would let everybody send
		return fmt.Errorf("%s: no such file, of which the settings in use are; want it, or a restart without it", file)
	}
	s.keepFixed(next)
	opened, err := openLogFile(next.Log.File, s.app.stdout)
	if err != nil {
		return next.Locate(err)
	}
	log := newLogger(next.Log, s.logFile)
	deps, err := s.dependencies(next, log)
	if err != nil {
		opened.Close()
		return next.Locate(err)
	}
	if err := s.proxy.Reload(next.Proxy, deps); err != nil {
		deps.CA.Close()
		opened.Close()
		return next.Locate(err)
	}
	s.logFile.replace(opened)
	s.store.Close()
	s.store, s.policy, s.settings, s.log = deps.CA, deps.Policy, next, log
	s.store.Start(context.Background()) // ends with close, or the next reload
	return nil
}

// keepFixed logs what cannot change while the proxy runs, and is asked to. The proxy keeps its part of it itself.
func (s *service) keepFixed(next *settings.Settings) {
	was := s.started
	for _, fixed := range []struct {
		key  string
		same bool
	}{
		{"listeners", slices.Equal(endpoints(was), endpoints(next))},
		{"metrics.address", was.Proxy.Metrics.Address == next.Proxy.Metrics.Address},
		{"accessLog.type", was.Proxy.AccessLog.Type == next.Proxy.AccessLog.Type},
		{"proxyLog.type", was.Log.Type == next.Log.Type},
	} {
		if !fixed.same {
			s.log.Warn().Str("key", fixed.key).Msg("cannot change without a restart; it stays as it was")
		}
	}
	next.Log.Type = was.Log.Type
}

// endpoints are the listeners without what can change: the files of their certificates, and whom the PROXY protocol is
// taken from.
func endpoints(s *settings.Settings) []string {
	var list []string
	for _, l := range s.Proxy.Listeners {
		list = append(list, fmt.Sprint(l.Type, l.Address, l.ReusePort))
	}
	return list
}

// newLogger returns a logger that writes to w as c says.
func newLogger(c settings.LogConfig, w io.Writer) zerolog.Logger {
	if c.Type == accesslog.Text {
		w = zerolog.ConsoleWriter{Out: w, NoColor: true, TimeFormat: time.RFC3339}
	}
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		panic("BUG: the log level was not validated: " + err.Error())
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

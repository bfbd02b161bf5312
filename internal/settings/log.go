package settings

import (
	"fmt"
	"whsentry/proxy/accesslog"

	"github.com/rs/zerolog"
)

// LogConfig is where and how the proxy logs what it does itself (proxyLog).
type LogConfig struct {
	Type  string // text or json
	File  string // appended to; "" is standard output
	Level string // debug, info, warn or error
}

func defaultLogConfig() LogConfig {
	return LogConfig{Type: accesslog.Text, Level: zerolog.LevelInfoValue}
}

func (c *LogConfig) validate() error {
	if c.Type != accesslog.Text && c.Type != accesslog.JSON {
		return fmt.Errorf("proxyLog.type: %q: not known; want text or json", c.Type)
	}
	switch c.Level {
	case zerolog.LevelDebugValue, zerolog.LevelInfoValue, zerolog.LevelWarnValue, zerolog.LevelErrorValue:
		return nil
	}
	return fmt.Errorf("proxyLog.level: %q: not known; want debug, info, warn or error", c.Level)
}

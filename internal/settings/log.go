package settings

import (
	"fmt"

	"github.com/rs/zerolog"

	"whsentry/proxy"
)

// LogConfig is where and how the proxy logs what it does itself (proxyLog).
type LogConfig struct {
	Type  string // text or json
	File  string // appended to; "" is standard output
	Level string // debug, info, warn or error
}

func defaultLogConfig() LogConfig {
	return LogConfig{Type: proxy.LogText, Level: zerolog.LevelInfoValue}
}

func (c *LogConfig) validate() error {
	if c.Type != proxy.LogText && c.Type != proxy.LogJSON {
		return fmt.Errorf("proxyLog.type: %q: not known; want text or json", c.Type)
	}
	switch c.Level {
	case zerolog.LevelDebugValue, zerolog.LevelInfoValue, zerolog.LevelWarnValue, zerolog.LevelErrorValue:
		return nil
	}
	return fmt.Errorf("proxyLog.level: %q: not known; want debug, info, warn or error", c.Level)
}

package guard

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Config is what an operator may change about the guard. Its keys are those of the configuration file.
type Config struct {
	// DenyList (cidrDenyList) is refused on top of the built-in table. It beats AllowList.
	DenyList []netip.Prefix
	// AllowList (cidrAllowList) lifts built-in refusals, own interfaces included. A cloud's metadata
	// address is lifted only by an entry that is exactly that one address.
	AllowList []netip.Prefix
	// PortDenyList (portDenyList) holds the destination ports that are refused; empty refuses none.
	PortDenyList []uint16
	// InsecureSkipDenyList (insecureSkipCidrDenyList) lets every address through. For tests only.
	InsecureSkipDenyList bool
	// DNSServers (dns.servers) are asked instead of the system's resolvers; empty means the system's.
	DNSServers []netip.AddrPort
	// DNSCacheTTL (dns.cacheTTL) is the longest that an answer is reused; 0 never reuses one.
	DNSCacheTTL time.Duration
	// EgressAddresses (egress.addresses) are the source addresses of connections to destinations;
	// empty leaves the choice to the operating system.
	EgressAddresses []netip.Addr
}

// DefaultConfig returns the defaults of every key.
func DefaultConfig() Config {
	return Config{
		PortDenyList: slices.Clone(badPorts),
		DNSCacheTTL:  10 * time.Second,
	}
}

// Validate reports the first setting that cannot be used, naming its key and value.
func (c *Config) Validate() error {
	if err := checkPrefixes(nameDenyList, c.DenyList); err != nil {
		return err
	}
	if err := checkPrefixes(nameAllowList, c.AllowList); err != nil {
		return err
	}
	if slices.Contains(c.PortDenyList, 0) {
		return fmt.Errorf("portDenyList: 0 is not a port; want 1 to 65535")
	}
	for _, s := range c.DNSServers {
		if !s.IsValid() || s.Port() == 0 {
			return fmt.Errorf("dns.servers: %s is not an ip:port", s)
		}
	}
	if c.DNSCacheTTL < 0 {
		return fmt.Errorf("dns.cacheTTL: %s is negative; want 0s or more", c.DNSCacheTTL)
	}
	for _, a := range c.EgressAddresses {
		if !a.IsValid() || a.IsUnspecified() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("egress.addresses: %s is not an address of this host", a)
		}
	}
	return nil
}

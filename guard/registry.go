package guard

import "net/netip"

// reach is the column "Globally Reachable" of IANA's special-purpose address registries (RFC 8190, section 2.2.1).
type reach uint8

const (
	unreachable   reach = iota // False: never a destination of ours
	notApplicable              // N/A: refused as well, nobody vouches for where it leads
	reachable                  // True: let through, unless it lies inside a block that is refused
	anycast                    // True, but answered by whichever volunteer is near (AS112, AMT), never by a customer: refused
)

// block is one row of the table below.
type block struct {
	prefix netip.Prefix
	name   string // as the registry has it, without its quotes
	source string
	reach  reach
}

// The names of rules that are not registry names. They are label values of a metric, so they stay as they are.
const (
	nameMetadata     = "cloud metadata"
	nameNotUnicast   = "not global unicast"
	nameOwnInterface = "own interface"
	nameOwnListener  = "own listener"
	nameDenyList     = "cidrDenyList"
	nameAllowList    = "cidrAllowList"
	nameInsecureSkip = "insecureSkipCidrDenyList"
)

// nat64 is the well-known prefix of RFC 6052, section 2.1, whose last 32 bits are the IPv4 address that is meant.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// registry is every block with a special purpose, in the order of its sources. Where blocks nest, the
// narrowest refused one gives the rule; a reachable one lifts nothing of what is around it.
var registry = []block{
	// https://www.iana.org/assignments/iana-ipv4-special-registry
	{netip.MustParsePrefix("0.0.0.0/8"), "This network", "RFC 791, section 3.2", unreachable},
	{netip.MustParsePrefix("0.0.0.0/32"), "This host on this network", "RFC 1122, section 3.2.1.3", unreachable},
	{netip.MustParsePrefix("10.0.0.0/8"), "Private-Use", "RFC 1918", unreachable},
	{netip.MustParsePrefix("100.64.0.0/10"), "Shared Address Space", "RFC 6598", unreachable},
	{netip.MustParsePrefix("127.0.0.0/8"), "Loopback", "RFC 1122, section 3.2.1.3", unreachable},
	{netip.MustParsePrefix("169.254.0.0/16"), "Link Local", "RFC 3927", unreachable},
	{netip.MustParsePrefix("172.16.0.0/12"), "Private-Use", "RFC 1918", unreachable},
	{netip.MustParsePrefix("192.0.0.0/24"), "IETF Protocol Assignments", "RFC 6890, section 2.1", unreachable},
	{netip.MustParsePrefix("192.0.0.0/29"), "IPv4 Service Continuity Prefix", "RFC 7335", unreachable},
	{netip.MustParsePrefix("192.0.0.8/32"), "IPv4 dummy address", "RFC 7600", unreachable},
	{netip.MustParsePrefix("192.0.0.9/32"), "Port Control Protocol Anycast", "RFC 7723", reachable},
	{netip.MustParsePrefix("192.0.0.10/32"), "Traversal Using Relays around NAT Anycast", "RFC 8155", reachable},
	{netip.MustParsePrefix("192.0.0.170/32"), "NAT64/DNS64 Discovery", "RFC 8880, RFC 7050, section 2.2", unreachable},
	{netip.MustParsePrefix("192.0.0.171/32"), "NAT64/DNS64 Discovery", "RFC 8880, RFC 7050, section 2.2", unreachable},
	{netip.MustParsePrefix("192.0.2.0/24"), "Documentation (TEST-NET-1)", "RFC 5737", unreachable},
	{netip.MustParsePrefix("192.31.196.0/24"), "AS112-v4", "RFC 7535", anycast},
	{netip.MustParsePrefix("192.52.193.0/24"), "AMT", "RFC 7450", anycast},
	{netip.MustParsePrefix("192.88.99.0/24"), "Deprecated (6to4 Relay Anycast)", "RFC 7526", notApplicable},
	{netip.MustParsePrefix("192.88.99.2/32"), "6a44-relay anycast address", "RFC 6751", unreachable},
	{netip.MustParsePrefix("192.168.0.0/16"), "Private-Use", "RFC 1918", unreachable},
	{netip.MustParsePrefix("192.175.48.0/24"), "Direct Delegation AS112 Service", "RFC 7534", anycast},
	{netip.MustParsePrefix("198.18.0.0/15"), "Benchmarking", "RFC 2544", unreachable},
	{netip.MustParsePrefix("198.51.100.0/24"), "Documentation (TEST-NET-2)", "RFC 5737", unreachable},
	{netip.MustParsePrefix("203.0.113.0/24"), "Documentation (TEST-NET-3)", "RFC 5737", unreachable},
	{netip.MustParsePrefix("240.0.0.0/4"), "Reserved", "RFC 1112, section 4", unreachable},
	{netip.MustParsePrefix("255.255.255.255/32"), "Limited Broadcast", "RFC 8190, RFC 919, section 7", unreachable},

	// https://www.iana.org/assignments/iana-ipv6-special-registry
	{netip.MustParsePrefix("::1/128"), "Loopback Address", "RFC 4291", unreachable},
	{netip.MustParsePrefix("::/128"), "Unspecified Address", "RFC 4291", unreachable},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped Address", "RFC 4291", unreachable}, // judged by what it holds
	{nat64, "IPv4-IPv6 Translat.", "RFC 6052", reachable},                                    // judged by what it holds
	{netip.MustParsePrefix("64:ff9b:1::/48"), "IPv4-IPv6 Translat.", "RFC 8215", unreachable},
	{netip.MustParsePrefix("100::/64"), "Discard-Only Address Block", "RFC 6666", unreachable},
	{netip.MustParsePrefix("100:0:0:1::/64"), "Dummy IPv6 Prefix", "RFC 9780", unreachable},
	{netip.MustParsePrefix("2001::/23"), "IETF Protocol Assignments", "RFC 2928", unreachable},
	{netip.MustParsePrefix("2001::/32"), "TEREDO", "RFC 4380, RFC 8190", notApplicable},
	{netip.MustParsePrefix("2001:1::1/128"), "Port Control Protocol Anycast", "RFC 7723", reachable},
	{netip.MustParsePrefix("2001:1::2/128"), "Traversal Using Relays around NAT Anycast", "RFC 8155", reachable},
	{netip.MustParsePrefix("2001:1::3/128"), "DNS-SD Service Registration Protocol Anycast", "RFC 9665", reachable},
	{netip.MustParsePrefix("2001:2::/48"), "Benchmarking", "RFC 5180, RFC errata 1752", unreachable},
	{netip.MustParsePrefix("2001:3::/32"), "AMT", "RFC 7450", reachable},
	{netip.MustParsePrefix("2001:4:112::/48"), "AS112-v6", "RFC 7535", reachable},
	{netip.MustParsePrefix("2001:10::/28"), "Deprecated (previously ORCHID)", "RFC 4843", notApplicable},
	{netip.MustParsePrefix("2001:20::/28"), "ORCHIDv2", "RFC 7343", reachable},
	{netip.MustParsePrefix("2001:30::/28"), "Drone Remote ID Protocol Entity Tags (DETs) Prefix", "RFC 9374", reachable},
	{netip.MustParsePrefix("2001:db8::/32"), "Documentation", "RFC 3849", unreachable},
	{netip.MustParsePrefix("2002::/16"), "6to4", "RFC 3056", notApplicable},
	{netip.MustParsePrefix("2620:4f:8000::/48"), "Direct Delegation AS112 Service", "RFC 7534", anycast},
	{netip.MustParsePrefix("3fff::/20"), "Documentation", "RFC 9637", unreachable},
	{netip.MustParsePrefix("5f00::/16"), "Segment Routing (SRv6) SIDs", "RFC 9602", unreachable},
	{netip.MustParsePrefix("fc00::/7"), "Unique-Local", "RFC 4193, RFC 8190", unreachable},
	{netip.MustParsePrefix("fe80::/10"), "Link-Local Unicast", "RFC 4291", unreachable},

	// Multicast has registries of its own; IPv4-compatible and site-local addresses are deprecated, so gone from IANA's.
	{netip.MustParsePrefix("224.0.0.0/4"), "Multicast", "RFC 5771", unreachable},
	{netip.MustParsePrefix("ff00::/8"), "Multicast", "RFC 4291, section 2.7", unreachable},
	{netip.MustParsePrefix("::/96"), "IPv4-compatible Address", "RFC 4291, section 2.5.5.1", unreachable},
	{netip.MustParsePrefix("fec0::/10"), "Site-Local Unicast", "RFC 3879", unreachable},

	// Unicast is assigned from 2000::/3 alone: these three are all the rest.
	// https://www.iana.org/assignments/ipv6-address-space
	{netip.MustParsePrefix("::/3"), nameNotUnicast, "RFC 4291, section 2.4", unreachable},
	{netip.MustParsePrefix("4000::/2"), nameNotUnicast, "RFC 4291, section 2.4", unreachable},
	{netip.MustParsePrefix("8000::/1"), nameNotUnicast, "RFC 4291, section 2.4", unreachable},

	// Who may ask here is given the machine's credentials, so an exception has to name the very address: the metadata floor.
	{netip.MustParsePrefix("169.254.169.254/32"), nameMetadata, "AWS, Azure, Google Cloud and others", unreachable},
	{netip.MustParsePrefix("169.254.170.2/32"), nameMetadata, "AWS ECS task credentials", unreachable},
	{netip.MustParsePrefix("169.254.170.23/32"), nameMetadata, "AWS EKS pod identity", unreachable},
	{netip.MustParsePrefix("169.254.42.42/32"), nameMetadata, "Scaleway", unreachable},
	{netip.MustParsePrefix("169.254.0.23/32"), nameMetadata, "Tencent Cloud", unreachable},
	{netip.MustParsePrefix("100.100.100.200/32"), nameMetadata, "Alibaba Cloud", unreachable},
	{netip.MustParsePrefix("168.63.129.16/32"), nameMetadata, "Azure host agent", unreachable},
	{netip.MustParsePrefix("192.0.0.192/32"), nameMetadata, "Oracle Cloud", unreachable},
	{netip.MustParsePrefix("fd00:ec2::254/128"), nameMetadata, "AWS", unreachable},
	{netip.MustParsePrefix("fd00:ec2::23/128"), nameMetadata, "AWS EKS pod identity", unreachable},
	{netip.MustParsePrefix("fd20:ce::254/128"), nameMetadata, "Google Cloud", unreachable},
	{netip.MustParsePrefix("fd00:42::42/128"), nameMetadata, "Scaleway", unreachable},
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), nameMetadata, "Oracle Cloud", unreachable},
	{netip.MustParsePrefix("fe80::a9fe:a9fe/128"), nameMetadata, "OpenStack", unreachable},
}

// rule returns the row as what is shown to people.
func (b block) rule() Rule { return Rule{Name: b.name, Prefix: b.prefix, Source: b.source} }

// refusedBlocks returns the rules of the rows that refuse.
func refusedBlocks() []Rule {
	var rules []Rule
	for _, b := range registry {
		if b.reach != reachable {
			rules = append(rules, b.rule())
		}
	}
	return rules
}

// badPorts are those of the WHATWG Fetch standard, section "Port blocking": services that can be made to
// take an HTTP request for their own protocol. The standard's 0 is no port to configure; CheckPort refuses it always.
var badPorts = []uint16{
	1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95,
	101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179,
	389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587,
	601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
	6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
}

// Package publicaddr keeps outgoing requests, whose addresses others may have a
// say in, to the public internet.
package publicaddr

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// ErrRefused is in the chain when an address is one that requests must not go to.
var ErrRefused = errors.New("address is private or reserved")

// refused are the networks that are not the public internet (IANA's special
// purpose registries), and what they are for. netip's own tests cover more
// (loopback, private, link-local, multicast).
var refused = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT; metadata of some clouds
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments; metadata of some clouds
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, broadcast
	netip.MustParsePrefix("100::/64"),        // discard
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("fec0::/10"),       // site-local
}

// Networks whose addresses carry an IPv4 address, and where in the 16 bytes: a
// gateway would take the packet there.
var carriers = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},   // NAT64
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12}, // NAT64, local use
	{netip.MustParsePrefix("2002::/16"), 2},       // 6to4
	{netip.MustParsePrefix("::/96"), 12},          // IPv4-compatible
}

// Check returns an error unless a is an address of the public internet.
func Check(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	bad := !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified()
	for _, p := range refused {
		bad = bad || p.Contains(a)
	}
	if bad {
		return fmt.Errorf("%w: %s (allow_private permits it)", ErrRefused, a)
	}
	if a.Is4() {
		return nil
	}
	b := a.As16()
	for _, c := range carriers {
		if c.prefix.Contains(a) {
			return Check(netip.AddrFrom4([4]byte(b[c.at : c.at+4])))
		}
	}
	return nil
}

// Control is a net.Dialer.Control: it sees every address that is about to be
// connected to, after names were resolved. A name that resolves to something
// else than a moment ago (DNS rebinding) gains nothing.
func Control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q", ErrRefused, address)
	}
	return Check(ap.Addr())
}

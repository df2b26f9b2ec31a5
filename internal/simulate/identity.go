package simulate

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
)

// The account and region of the fleet; the account is one of AWS's own in
// documentation.
const (
	Account  = "111122223333"
	Region   = "eu-west-1"
	endpoint = "a1b2c3d4e5f6g7-ats.iot.eu-west-1.amazonaws.com"
	logGroup = "AWSIotLogsV2"
	roleID   = "AROAEXAMPLEFLEETROLE2"
	roleName = "FleetTokenExchangeRole"
)

// certificateID returns a certificate ID as AWS IoT has them: 64 hexadecimal
// digits. It depends on the seed and the number alone.
func certificateID(seed uint64, n int) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], seed)
	binary.BigEndian.PutUint64(b[8:], uint64(n))
	sum := sha256.Sum256(b[:])
	return hex.EncodeToString(sum[:])
}

// The devices are behind the addresses reserved for documentation, which no
// real system has: sites from 198.51.100.0/24 and 192.0.2.0/24 and, when these
// are used up, from 2001:db8::/32 (RFC 5737, RFC 3849). Attackers come from
// 203.0.113.0/24.
const v4Sites = 2 * 254

func siteAddress(site int) string {
	if site < v4Sites {
		net := [2]string{"198.51.100.", "192.0.2."}[site%2]
		return fmt.Sprintf("%s%d", net, 1+site/2)
	}
	return v6Address(1, site, 1)
}

// roamingAddress is what a device in a mobile network gets at a connection.
func roamingAddress(device, connection int) string { return v6Address(2, device, connection) }

func v6Address(pool, high, low int) string {
	b := [16]byte{0x20, 0x01, 0x0d, 0xb8, byte(pool)}
	binary.BigEndian.PutUint32(b[5:], uint32(high))
	binary.BigEndian.PutUint32(b[12:], uint32(low))
	return netip.AddrFrom16(b).String()
}

func attackerAddress(r *rng) string { return fmt.Sprintf("203.0.113.%d", 1+r.n(254)) }

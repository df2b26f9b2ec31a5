package identity

import "github.com/tocsin-io/tocsin/schemas"

// UnknownDevice is the device key of events that name nothing at all.
const UnknownDevice = "unknown"

// DeviceKey returns the key that partitions events: the client ID, else the
// thing name, else bound (the device that the certificate is bound to), else
// cert:<id>, ip:<address> or account:<id>, else UnknownDevice. What has to be
// put together is appended to *arena.
func DeviceKey(arena *[]byte, ev *schemas.Event, bound []byte) []byte {
	switch {
	case len(ev.ClientID) > 0:
		return ev.ClientID
	case len(ev.ThingName) > 0:
		return ev.ThingName
	case len(bound) > 0:
		return bound
	case len(ev.CertificateID) > 0:
		return join(arena, "cert:", ev.CertificateID)
	case len(ev.SourceIP) > 0:
		return join(arena, "ip:", ev.SourceIP)
	case len(ev.Account) > 0:
		return join(arena, "account:", ev.Account)
	}
	return join(arena, UnknownDevice, nil)
}

func join(arena *[]byte, prefix string, s []byte) []byte {
	start := len(*arena)
	*arena = append(append(*arena, prefix...), s...)
	return (*arena)[start:len(*arena):len(*arena)]
}

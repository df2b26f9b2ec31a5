package publicaddr

import (
	"errors"
	"net/netip"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		addr   string
		public bool
	}{
		{"8.8.8.8", true},
		{"2606:4700:4700::1111", true},
		{"::ffff:8.8.8.8", true},
		{"64:ff9b::808:808", true},
		{"127.0.0.1", false},
		{"127.255.0.1", false},
		{"0.0.0.0", false},
		{"0.1.2.3", false},
		{"10.1.2.3", false},
		{"172.16.0.1", false},
		{"172.31.255.255", false},
		{"192.168.1.1", false},
		{"169.254.169.254", false}, // AWS metadata
		{"100.64.0.1", false},
		{"100.100.100.200", false}, // Alibaba metadata
		{"192.0.0.192", false},     // Oracle metadata
		{"198.18.0.1", false},
		{"224.0.0.1", false},
		{"240.0.0.1", false},
		{"255.255.255.255", false},
		{"::", false},
		{"::1", false},
		{"::ffff:127.0.0.1", false},
		{"::ffff:169.254.169.254", false},
		{"::127.0.0.1", false},
		{"fe80::1", false},
		{"fe80::1%eth0", false},
		{"fec0::1", false},
		{"fc00::1", false},
		{"fd00:ec2::254", false}, // AWS metadata
		{"ff02::1", false},
		{"64:ff9b::a9fe:a9fe", false}, // NAT64 of 169.254.169.254
		{"2002:7f00:1::", false},      // 6to4 of 127.0.0.1
		{"2002:0808:0808::1", true},   // 6to4 of 8.8.8.8
	} {
		err := Check(netip.MustParseAddr(tc.addr))
		if (err == nil) != tc.public || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want public %v", tc.addr, err, tc.public)
		}
	}
}

func TestControlRefusesWhatItCannotRead(t *testing.T) {
	for _, address := range []string{"", "localhost:80", "/run/socket", "127.0.0.1:80", "[::1]:80", "[fe80::1%lo]:80"} {
		if err := Control("tcp", address, nil); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", address, err)
		}
	}
	if err := Control("tcp", "8.8.8.8:443", nil); err != nil {
		t.Error(err)
	}
}

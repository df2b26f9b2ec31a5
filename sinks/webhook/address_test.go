package webhook

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/publicaddr"
	"github.com/tocsin-io/tocsin/schemas"
)

func TestPrivateAddressesAreRefused(t *testing.T) {
	r := newReceiver(t, nil) // on loopback
	private := func(o *Options) { o.AllowPrivate = false }
	for _, url := range []string{r.URL, "http://[::1]:80/", "http://169.254.169.254/latest", "https://10.0.0.1/"} {
		if _, err := New(Options{Name: "x", URL: url, Secrets: []string{testSecret('k')}}); err == nil || !errors.Is(err, publicaddr.ErrRefused) {
			t.Errorf("%s: %v", url, err)
		}
	}
	// A name says nothing about where it leads.
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(r.URL, "http://"))
	h := start(t, "http://localhost:"+port, func(o *Options) { private(o); o.GiveUpAfter = time.Nanosecond })
	p := h.open(t, 0)
	write(t, p, record(t, 0, finding("d", schemas.ActivityCreate, "high")))
	waitIdle(t, p)
	if len(r.ids()) != 0 {
		t.Error("the receiver on loopback was reached")
	}
	if err := h.opts.Status.Err(); !errors.Is(err, publicaddr.ErrRefused) {
		t.Errorf("readiness: %v", err)
	}
}

func TestDNSRebindingGainsNothing(t *testing.T) {
	r := newReceiver(t, nil)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(r.URL, "http://"))
	dns := newNameServer(t, [4]byte{127, 0, 0, 1})
	for name, tc := range map[string]struct {
		allow   bool
		reached int
	}{
		"refused": {false, 0},
		// The same with private addresses allowed: the test's name server works.
		"allowed": {true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := startWith(t, dns.resolver(), "http://hooks.example.com:"+port, func(o *Options) {
				o.AllowPrivate, o.GiveUpAfter = tc.allow, time.Nanosecond
			})
			asked := dns.asked.Load()
			p := h.open(t, 0)
			write(t, p, record(t, 0, finding("d"+name, schemas.ActivityCreate, "high")))
			waitIdle(t, p)
			if dns.asked.Load() == asked {
				t.Error("the name server was not asked: the test tests nothing")
			}
			if n := len(r.ids()); n != tc.reached {
				t.Errorf("the receiver was reached %d times, want %d", n, tc.reached)
			}
			r.mu.Lock()
			r.got = nil
			r.mu.Unlock()
		})
	}
}

// nameServer answers every question for an IPv4 address with one of its own.
type nameServer struct {
	conn  net.PacketConn
	addr  [4]byte
	asked atomic.Int32
}

func newNameServer(t testing.TB, addr [4]byte) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn, addr: addr}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(s.answer(buf[:n]), from) // a resolver without an answer asks again
		}
	}()
	return s
}

// answer is RFC 1035, section 4, for one question.
func (s *nameServer) answer(q []byte) []byte {
	s.asked.Add(1)
	end := 12
	for q[end] != 0 {
		end += int(q[end]) + 1
	}
	end += 5 // the root label, type and class
	isA := binary.BigEndian.Uint16(q[end-4:]) == 1
	a := append([]byte{}, q[:end]...)
	a[2], a[3] = 0x84, 0 // response, authoritative, no error
	clear(a[4:12])
	a[5] = 1 // one question
	if isA {
		a[7] = 1 // one answer
		a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		a = append(a, s.addr[:]...)
	}
	return a
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

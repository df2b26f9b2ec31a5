package registry

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/schemas"
)

var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func randomHex(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return hex.EncodeToString(b)
}

// typical is a certificate as most are.
func typical(rng *rand.Rand, i int) schemas.Certificate {
	name := fmt.Sprintf("pump-%07d", i)
	before := epoch.AddDate(0, 0, -rng.IntN(600)).Add(time.Duration(rng.IntN(86400)) * time.Second)
	serial, _ := schemas.NormalizeSerial(randomHex(rng, 20))
	created := before.Add(time.Duration(rng.IntN(100_000)) * time.Millisecond)
	return schemas.Certificate{
		ID: randomHex(rng, 32), Serial: serial,
		Issuer: "CN=Fleet CA 1,O=Example", IssuerKeyID: "5f0a3b", CAID: strings.Repeat("ab", 32),
		Subject: "CN=" + name + ",O=Example", NotBefore: before, NotAfter: before.AddDate(2, 0, 0),
		Key:    schemas.KeyInfo{Type: "ECDSA", Bits: 256, SHA256: randomHex(rng, 32)},
		Status: schemas.CertActive, StatusReason: "inventory", StatusSince: created,
		Things: []string{name}, ClientIDs: []string{name}, SourceIP: fmt.Sprintf("198.51.%d.%d", rng.IntN(256), rng.IntN(256)),
		LastSeen: epoch.Add(time.Duration(rng.IntN(1e9)) * time.Millisecond), Created: created, Updated: epoch.Add(time.Duration(rng.IntN(1e9)) * time.Millisecond),
	}
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	table := New(Options{ByName: true})
	full := typical(rng, 1)
	full.Revoked = &schemas.Revocation{Time: epoch, Reason: "keyCompromise", Source: "https://crl.example.com/ca.crl"}
	full.Claim, full.Status, full.Key.Weak = true, schemas.CertRevoked, "short"
	full.ClientIDs = []string{"other", "pump-0000001", "", "third"}
	odd := schemas.Certificate{
		ID: randomHex(rng, 32), Serial: "00AB", Issuer: "a\x00b", Subject: "CN=x\x00y", SourceIP: "fe80::1%eth0",
		Key: schemas.KeyInfo{SHA256: "nothing"}, StatusReason: "with \x00", NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		Revoked: &schemas.Revocation{}, Things: []string{""},
	}
	ip6 := schemas.Certificate{ID: randomHex(rng, 32), SourceIP: "2001:db8::1", Serial: "0", NotBefore: time.Date(1949, 1, 1, 0, 0, 0, 1e6, time.UTC)}
	for name, c := range map[string]schemas.Certificate{
		"typical": typical(rng, 2), "full": full, "odd": odd, "IPv6": ip6, "ID alone": {ID: randomHex(rng, 32)},
		"subject without the name": {ID: randomHex(rng, 32), Subject: "CN=AWS IoT Certificate", Things: []string{"pump"}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 3 { // with and without the texts in the dictionary
				if err := table.Put(&c); err != nil {
					t.Fatal(err)
				}
				got, ok := table.Get(c.ID)
				if diff := cmp.Diff(c, got); diff != "" || !ok {
					t.Fatal(ok, diff)
				}
			}
		})
	}
}

func TestWhatIsNoCertificate(t *testing.T) {
	table := New(Options{})
	for _, id := range []string{"", "abc", strings.Repeat("AB", 32), strings.Repeat("x", 64), strings.Repeat("ab", 33)} {
		if err := table.Put(&schemas.Certificate{ID: id}); !errors.Is(err, ErrID) {
			t.Errorf("%q: %v", id, err)
		}
		table.Delete(id)
		if _, ok := table.Get(id); ok {
			t.Errorf("%q is there", id)
		}
	}
	huge := schemas.Certificate{ID: strings.Repeat("ab", 32), Subject: strings.Repeat("x", 40<<10)}
	if err := table.Put(&huge); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if table.Len() != 0 {
		t.Errorf("%d certificates", table.Len())
	}
}

// TestAgainstMap does random things to a table and to a map: they stay the same.
func TestAgainstMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		table, want := New(Options{ByName: true}), map[string]schemas.Certificate{}
		var ids []string
		for range rapid.IntRange(1, 600).Draw(rt, "steps") {
			var c schemas.Certificate
			switch n := rng.IntN(10); {
			case n < 5 || len(ids) == 0:
				c = typical(rng, rng.IntN(100))
				ids = append(ids, c.ID)
			case n < 8:
				id := ids[rng.IntN(len(ids))]
				c = typical(rng, rng.IntN(100))
				c.ID = id
				c.ClientIDs = append(c.ClientIDs, strings.Repeat("y", rng.IntN(400)))
			default:
				id := ids[rng.IntN(len(ids))]
				table.Delete(id)
				delete(want, id)
				continue
			}
			if err := table.Put(&c); err != nil {
				rt.Fatal(err)
			}
			want[c.ID] = c
		}
		if table.Len() != len(want) {
			rt.Fatalf("%d certificates, want %d", table.Len(), len(want))
		}
		for _, id := range ids {
			c, ok := want[id]
			got, have := table.Get(id)
			if ok != have {
				rt.Fatalf("%s: there: %v, want %v", id, have, ok)
			}
			if !ok {
				continue
			}
			if diff := cmp.Diff(c, got); diff != "" {
				rt.Fatal(diff)
			}
			if found, ok := table.BySerial(c.IssuerKeyID, c.Serial); !ok || found != id {
				rt.Fatalf("serial %s leads to %q, want %s", c.Serial, found, id)
			}
			named, all := table.Named(c.Things[0])
			if all && !contains(named, id) {
				rt.Fatalf("%s is not among the %d of its name", id, len(named))
			}
		}
		seen := map[string]int{}
		table.Range(func(c *schemas.Certificate) bool { seen[c.ID]++; return true })
		if len(seen) != len(want) {
			rt.Fatalf("Range had %d, want %d", len(seen), len(want))
		}
	})
}

func contains(cs []schemas.Certificate, id string) bool {
	for _, c := range cs {
		if c.ID == id {
			return true
		}
	}
	return false
}

func TestSerialNumbersInEverySpelling(t *testing.T) {
	table := New(Options{})
	rng := rand.New(rand.NewPCG(1, 1))
	one, two := typical(rng, 1), typical(rng, 2)
	one.Serial, two.Serial = "a0b1c2d3e4f5", "a0b1c2d3e4f5"
	two.Issuer, two.IssuerKeyID = "CN=Fleet CA 2,O=Example", "77aa"
	none := typical(rng, 3)
	none.Serial, none.IssuerKeyID, none.Issuer = "a0b1c2d3e4f5", "", "CN=Old CA"
	for _, c := range []schemas.Certificate{one, two, none} {
		if err := table.Put(&c); err != nil {
			t.Fatal(err)
		}
	}
	for _, spelling := range []string{"a0b1c2d3e4f5", "A0:B1:C2:D3:E4:F5", "0xA0B1C2D3E4F5", "00a0b1c2d3e4f5", "a0 b1 c2 d3 e4 f5"} {
		for issuer, want := range map[string][]string{
			"":                        {one.ID, two.ID, none.ID},
			"5f0a3b":                  {one.ID},
			"5F:0A:3B":                {one.ID},
			"CN=Fleet CA 2,O=Example": {two.ID},
			"CN=Old CA":               {none.ID},
			"CN=Nobody":               nil,
		} {
			var got []string
			for _, c := range table.Issued(issuer, spelling) {
				got = append(got, c.ID)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s of %q: %s", spelling, issuer, diff)
			}
		}
		if id, ok := table.BySerial("77aa", spelling); !ok || id != two.ID {
			t.Errorf("%s: %q", spelling, id)
		}
	}
	if got := table.Issued("", "no serial"); got != nil {
		t.Error(got)
	}
}

func TestNamesThatManyShare(t *testing.T) {
	table := New(Options{ByName: true})
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 1000 {
		c := typical(rng, i)
		c.Subject = "CN=AWS IoT Certificate"
		if err := table.Put(&c); err != nil {
			t.Fatal(err)
		}
	}
	found, all := table.Named("AWS IoT Certificate")
	if len(found) != maxNamesakes || all {
		t.Errorf("%d found, all: %v", len(found), all)
	}
	if found, all := table.Named("somebody"); len(found) != 0 || !all {
		t.Errorf("%d found, all: %v", len(found), all)
	}
}

func TestCommonName(t *testing.T) {
	for subject, want := range map[string]string{
		"CN=pump-1":                 "pump-1",
		"CN=pump-1,O=Example,C=DE":  "pump-1",
		"C=DE, O=Example, CN=pump":  "pump",
		`O=a\,CN=b,CN=c\+d`:         "c+d",
		`cn=\d0\b9x+OU=1`:           "\xd0\xb9x",
		"O=Example":                 "",
		"":                          "",
		`CN=a\`:                     `a\`,
		"SERIALNUMBER=CN,O=CN=x":    "",
		"2.5.4.5=#1303414243,CN=ok": "ok",
	} {
		if got := commonName(subject); got != want {
			t.Errorf("%q: %q, want %q", subject, got, want)
		}
	}
}

// TestSpaceIsReclaimed lets records grow and shrink many times over: what they
// leave behind is used again.
func TestSpaceIsReclaimed(t *testing.T) {
	const n = 20_000
	table := New(Options{})
	rng := rand.New(rand.NewPCG(1, 1))
	ids := make([]string, n)
	for round := range 6 {
		for i := range n {
			c := typical(rng, i)
			if round > 0 {
				c.ID = ids[i]
			}
			ids[i] = c.ID
			c.StatusReason = strings.Repeat("r", (i+round*37)%200)
			if err := table.Put(&c); err != nil {
				t.Fatal(err)
			}
		}
		s := table.Stats()
		if s.Certificates != n || s.DeadBytes > s.Bytes/wasteShare+minWaste {
			t.Fatalf("round %d: %+v", round, s)
		}
	}
	for i, id := range ids {
		if c, ok := table.Get(id); !ok || c.Things[0] != fmt.Sprintf("pump-%07d", i) {
			t.Fatalf("%s: %+v", id, c)
		}
		table.Delete(id)
	}
	if s := table.Stats(); s.Certificates != 0 || s.DeadBytes > minWaste+chunkSize {
		t.Errorf("%+v", s)
	}
}

// TestReadersBesideAWriter is for the race detector: what readers see is always a
// whole record, and an ID that is never removed is always there.
func TestReadersBesideAWriter(t *testing.T) {
	table := New(Options{ByName: true})
	rng := rand.New(rand.NewPCG(1, 1))
	stays := make([]schemas.Certificate, 500)
	for i := range stays {
		stays[i] = typical(rng, i)
		if err := table.Put(&stays[i]); err != nil {
			t.Fatal(err)
		}
	}
	table.SetComplete(time.UnixMilli(1))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				c := &stays[i%len(stays)]
				ev := schemas.Event{CertificateID: []byte(c.ID), Time: epoch.UnixMilli(), IngestTime: epoch.UnixMilli()}
				table.Stamp(&ev)
				if want := c.StatusAt(epoch); ev.CertificateStatus != want || !ev.HasExpiry {
					t.Errorf("stamped %v, want %v", ev.CertificateStatus, want)
					return
				}
				if got, ok := table.Get(c.ID); !ok || got.Serial != c.Serial {
					t.Errorf("%s is not there", c.ID)
					return
				}
				if id, ok := table.BySerial(c.IssuerKeyID, c.Serial); !ok || id != c.ID {
					t.Errorf("serial %s is not there", c.Serial)
					return
				}
			}
		})
	}
	for round := range 5_000 {
		c := typical(rng, 1000+round%300)
		if err := table.Put(&c); err != nil {
			t.Fatal(err)
		}
		if round%3 > 0 {
			table.Delete(c.ID)
		}
		again := stays[round%len(stays)]
		again.StatusReason = strings.Repeat("r", round%300)
		if err := table.Put(&again); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	readers.Wait()
}

package benchmarks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/correlate/identity/crl"
)

// makeCRL writes a list of n entries, as AWS Private CA makes them: serial numbers
// of 16 bytes, each with a reason. It returns the issuer.
func makeCRL(b *testing.B, path string, n int, asPEM bool) *x509.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fleet CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, issuer, issuer, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	if issuer, err = x509.ParseCertificate(der); err != nil {
		b.Fatal(err)
	}
	list := &x509.RevocationList{Number: big.NewInt(1519676905984), ThisUpdate: time.Now(), NextUpdate: time.Now().AddDate(0, 0, 7)}
	var serial [16]byte
	for i := range n {
		binary.BigEndian.PutUint64(serial[:], 0x4fedcba987654321)
		binary.BigEndian.PutUint64(serial[8:], uint64(i)*0x9e3779b97f4a7c15)
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: new(big.Int).SetBytes(serial[:]), RevocationTime: time.Now().Add(-time.Duration(i) * time.Second), ReasonCode: 1 + i%5,
		})
	}
	if der, err = x509.CreateRevocationList(rand.Reader, list, issuer, key); err != nil {
		b.Fatal(err)
	}
	if asPEM {
		der = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	}
	if err := os.WriteFile(path, der, 0o600); err != nil {
		b.Fatal(err)
	}
	return issuer
}

// BenchmarkCRL reads, verifies and walks a revocation list of a million entries.
// The bar is 5 s and 300 MiB. peak-MiB is what the heap had at most above what it
// had before, garbage that the collector had not come to included.
func BenchmarkCRL(b *testing.B) {
	entries := 1_000_000
	if testing.Short() {
		entries = 10_000
	}
	for _, asPEM := range []bool{false, true} {
		name := map[bool]string{false: "DER", true: "PEM"}[asPEM]
		b.Run(fmt.Sprintf("%s/entries=%d", name, entries), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "ca.crl")
			issuer := makeCRL(b, path, entries, asPEM)
			info, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(info.Size())
			debug.FreeOSMemory()
			before := heap()
			var peak atomic.Uint64
			done := make(chan struct{})
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				ticker := time.NewTicker(2 * time.Millisecond)
				defer ticker.Stop()
				for {
					select {
					case <-done:
						return
					case <-ticker.C:
						peak.Store(max(peak.Load(), heap()))
					}
				}
			}()
			b.ResetTimer()
			for range b.N {
				f, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				if n := readCRL(b, f, issuer); n != entries {
					b.Fatalf("%d entries", n)
				}
				f.Close()
			}
			b.StopTimer()
			close(done)
			<-stopped
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/list")
			b.ReportMetric(float64(max(peak.Load(), before)-before)/(1<<20), "peak-MiB")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(entries), "ns/entry")
		})
	}
}

func readCRL(b *testing.B, r io.Reader, issuer *x509.Certificate) (n int) {
	u, err := crl.Read(r, 0)
	if err != nil {
		b.Fatal(err)
	}
	list, err := u.Verify(issuer)
	if err != nil {
		b.Fatal(err)
	}
	for e := range list.Revoked() {
		if len(e.Serial) == 0 {
			b.Fatal("no serial number")
		}
		n++
	}
	return n
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

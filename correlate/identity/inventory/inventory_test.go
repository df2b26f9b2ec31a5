package inventory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/correlate/identity/inventory/fakeiot"
	"github.com/tocsin-io/tocsin/internal/testkit"
	"github.com/tocsin-io/tocsin/schemas"
)

// memory is a Registry that keeps what it is told.
type memory struct {
	mu       sync.Mutex
	certs    map[string]*schemas.Certificate
	cas      map[string]CA
	saved    State
	problems []error
}

func newMemory() *memory {
	return &memory{certs: make(map[string]*schemas.Certificate), cas: make(map[string]CA)}
}

func (m *memory) Certificate(id string) (schemas.Certificate, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.certs[id]; ok {
		return *c, true
	}
	return schemas.Certificate{}, false
}

func (m *memory) Select(n int, match func(*schemas.Certificate) bool) (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, c := range m.certs {
		if len(ids) < n && match(c) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (m *memory) Merge(_ context.Context, facts ...Fact) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range facts {
		c := m.certs[f.ID]
		if c == nil {
			c = &schemas.Certificate{ID: f.ID}
			m.certs[f.ID] = c
		}
		if f.Gone {
			c.Status = schemas.CertUnknown
			continue
		}
		if f.Status != schemas.CertUnspecified {
			c.Status = f.Status
		}
		if !f.Created.IsZero() {
			c.Created = f.Created
		}
		if f.CAID != "" {
			c.CAID = f.CAID
		}
		if f.Certificate != nil {
			c.NotAfter, c.Serial = f.Certificate.NotAfter, f.Certificate.Serial
		}
		if f.HasThings {
			c.Things = f.Things
		}
	}
	return nil
}

func (m *memory) MergeCA(_ context.Context, ca CA) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cas[ca.ID] = ca
	return nil
}

func (m *memory) Save(_ context.Context, s State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saved = s
	return nil
}

func (m *memory) Problem(_ context.Context, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problems = append(m.problems, err)
}

func (m *memory) described() (n int) {
	return len(m.Select(1<<20, func(c *schemas.Certificate) bool { return !c.NotAfter.IsZero() }))
}

func id(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

// fleet fills a fake with certificates that share one PEM: what they say does not
// matter here.
func fleet(t *testing.T, n, page int) (*fakeiot.API, string) {
	t.Helper()
	ca := testkit.NewCA(t, "CA")
	api := fakeiot.New(page)
	pem := testkit.PEM(ca.Cert)
	for i := range n {
		api.Put(fakeiot.Certificate{ID: id(fmt.Sprint(i)), PEM: pem, Status: types.CertificateStatusActive, Created: time.Now().Add(-time.Hour), Things: []string{fmt.Sprint("thing-", i)}})
	}
	return api, pem
}

// running starts an inventory in a bubble of synctest, and returns what ends it.
func running(t *testing.T, opts Options, m *memory) (v *Inventory, stop func()) {
	t.Helper()
	opts.Logger = zaptest.NewLogger(t)
	v = New(opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	state := m.saved
	go func() { done <- v.Run(ctx, m, state) }()
	return v, func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// sleep lets time pass in a bubble, and what happens in it come to rest.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, pem := fleet(t, 60, 25)
		api.PutCA(fakeiot.Certificate{ID: id("ca"), PEM: pem, Status: "ACTIVE"})
		api.Put(fakeiot.Certificate{ID: id("bad"), PEM: "nonsense", Status: types.CertificateStatusInactive, CA: id("ca"), Created: time.Now()})
		m := newMemory()
		_, stop := running(t, Options{Client: api}, m)
		defer stop()
		sleep(time.Minute)
		if m.saved.Total != 61 || m.saved.Complete.IsZero() || m.described() != 60 || len(m.cas) != 1 {
			t.Errorf("%+v, %d described, %d CAs", m.saved, m.described(), len(m.cas))
		}
		bad := m.certs[id("bad")]
		if bad.Status != schemas.CertInactive || bad.CAID != id("ca") {
			t.Errorf("the one that does not parse: %+v", bad)
		}
		if got := m.certs[id("7")].Things; !slices.Equal(got, []string{"thing-7"}) {
			t.Errorf("things %v", got)
		}
		// A day later nothing is described again but what changed.
		before := api.Calls("DescribeCertificate")
		changed := fakeiot.Certificate{ID: id("7"), PEM: pem, Status: types.CertificateStatusRevoked, Created: time.Now()}
		api.Put(changed)
		api.Remove(id("8"))
		sleep(24 * time.Hour)
		if got := api.Calls("DescribeCertificate") - before; got != 2 {
			t.Errorf("%d certificates were described again, want 2", got)
		}
		if m.certs[id("7")].Status != schemas.CertRevoked || m.certs[id("8")].Status != schemas.CertUnknown {
			t.Errorf("changed: %s, removed: %s", m.certs[id("7")].Status, m.certs[id("8")].Status)
		}
		if cycles := api.Calls("ListCACertificates"); cycles < 24 || cycles > 26 {
			t.Errorf("%d cycles in a day and a minute", cycles)
		}
	})
}

// TestQuota counts the calls of an hour.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, _ := fleet(t, 30_000, 250)
		m := newMemory()
		_, stop := running(t, Options{Client: api, Interval: 24 * time.Hour, Quotas: map[string]float64{opDescribeCertificate: 8}}, m)
		defer stop()
		sleep(time.Hour)
		if got := api.Calls("DescribeCertificate"); got < 3600*4*95/100 || got > 3600*4+10 {
			t.Errorf("%d calls in an hour; the quota is 8 a second, and half of it is to be used", got)
		}
		// The listing is done long before.
		if took := m.saved.Complete.Sub(m.saved.Cycle); took > time.Minute || m.saved.Total != 30_000 {
			t.Errorf("listing %d took %v", m.saved.Total, took)
		}
	})
}

func TestPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, pem := fleet(t, 2000, 250)
		m := newMemory()
		// The registry knows this one in another state.
		moved := id("1999")
		m.certs[moved] = &schemas.Certificate{ID: moved, Status: schemas.CertInactive, NotAfter: time.Now(), Created: time.Now()}
		v, stop := running(t, Options{Client: api, Concurrency: 1}, m)
		defer stop()
		sleep(20 * time.Second)
		if at := slices.Index(api.Described(), moved); at < 0 || at > 40 {
			t.Errorf("the one that changed was the %dth", at)
		}
		api.Put(fakeiot.Certificate{ID: id("new"), PEM: pem, Status: types.CertificateStatusActive, Created: time.Now()})
		before := len(api.Described())
		v.Want(id("new"))
		v.Want(id("nobody's"))
		sleep(2 * time.Second)
		got := api.Described()[before:]
		if !slices.Contains(got[:3], id("new")) || !slices.Contains(got[:4], id("nobody's")) {
			t.Errorf("what the logs showed had to wait: %d were described", len(got))
		}
		if m.certs[id("nobody's")].Status != schemas.CertUnknown {
			t.Error("AWS does not have it, and it is not unknown")
		}
	})
}

// TestRestart ends an inventory again and again, with everything that was merged
// after the last Save lost, in the middle of the listing and of describing.
func TestRestart(t *testing.T) {
	for _, expire := range []bool{false, true} {
		t.Run(fmt.Sprintf("markers expire %v", expire), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api, _ := fleet(t, 3000, 10)
				m := newMemory()
				restarts := 0
				for ; m.described() < 3000 && restarts < 60; restarts++ {
					_, stop := running(t, Options{Client: api}, m)
					sleep(17 * time.Second)
					stop()
					if expire && restarts == 2 {
						api.ExpireMarkers()
					}
				}
				if m.described() != 3000 || m.saved.Complete.IsZero() {
					t.Fatalf("%d described after %d restarts; %+v", m.described(), restarts, m.saved)
				}
				if got := api.Calls("DescribeCertificate"); got > 3000+restarts*8 {
					t.Errorf("%d calls for 3000 certificates and %d restarts", got, restarts)
				}
				if got, want := api.Calls("ListCertificates"), 300*2+restarts*savePages; got > want {
					t.Errorf("%d pages were listed, want at most %d", got, want)
				}
			})
		})
	}
}

// TestThrottling has others use up the quota for a while.
func TestThrottling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, _ := fleet(t, 5000, 250)
		m := newMemory()
		throttle := func(on bool) {
			api.Fail(func(operation, _ string) error {
				if on && operation == "DescribeCertificate" {
					return &types.ThrottlingException{}
				}
				return nil
			})
		}
		_, stop := running(t, Options{Client: api, Interval: 24 * time.Hour}, m)
		defer stop()
		sleep(10 * time.Second)
		throttle(true)
		sleep(time.Minute)
		before := api.Calls("DescribeCertificate")
		sleep(time.Minute)
		if got := api.Calls("DescribeCertificate") - before; got > 30 {
			t.Errorf("%d calls in a minute while AWS throttles: 300 is what it does otherwise", got)
		}
		throttle(false)
		time.Sleep(5 * time.Minute) // to recover
		before = api.Calls("DescribeCertificate")
		sleep(time.Minute)
		if got := api.Calls("DescribeCertificate") - before; got < 280 {
			t.Errorf("%d calls in a minute after AWS took them again", got)
		}
		if len(m.problems) > 0 {
			t.Errorf("throttling is told as a failure: %v", m.problems)
		}
	})
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, _ := fleet(t, 100, 25)
		m := newMemory()
		denied := &smithy.GenericAPIError{Code: "AccessDeniedException"}
		api.Fail(func(operation, _ string) error {
			switch operation {
			case "ListPrincipalThings":
				return denied
			case "ListCertificates":
				return errors.New("connection refused")
			}
			return nil
		})
		_, stop := running(t, Options{Client: api}, m)
		defer stop()
		sleep(2 * time.Minute)
		if len(m.problems) == 0 || m.saved.Problem == "" || !m.saved.Complete.IsZero() {
			t.Errorf("AWS is away: %v, %+v", m.problems, m.saved)
		}
		if got := api.Calls("ListCertificates"); got > 50 {
			t.Errorf("%d calls in two minutes while AWS is away", got)
		}
		api.Fail(func(operation, _ string) error {
			if operation == "ListPrincipalThings" {
				return denied
			}
			return nil
		})
		sleep(10 * time.Minute)
		if m.described() != 100 || m.saved.Problem != "" {
			t.Errorf("%d described, %+v", m.described(), m.saved)
		}
	})
}

func TestQueueBounds(t *testing.T) {
	q := newQueue()
	for i := range maxQueued {
		if !q.add(changed, fmt.Sprint(i)) {
			t.Fatalf("no room for the %dth", i)
		}
	}
	if q.add(changed, "one more") {
		t.Error("the queue has no bound")
	}
	if !q.add(changed, "7") {
		t.Error("one that is queued already is refused")
	}
}

func TestAccount(t *testing.T) {
	for arn, want := range map[string]string{
		"arn:aws:iot:eu-west-1:111122223333:cert/ab": "111122223333", "arn:aws:iot": "", "": "",
	} {
		if got := account(arn); got != want {
			t.Errorf("%s: %s", arn, got)
		}
	}
	if diff := cmp.Diff(schemas.CertPendingActivation, status("PENDING_ACTIVATION")); diff != "" {
		t.Error(diff)
	}
}

func TestQueueFairness(t *testing.T) {
	q := newQueue()
	for i := range 100 {
		q.add(urgent, fmt.Sprint("urgent ", i))
	}
	q.add(changed, "changed")
	for range fairTurn {
		if id, _ := q.next(t.Context(), nil); id == "changed" {
			return
		}
	}
	t.Error("what is urgent keeps the rest waiting")
}

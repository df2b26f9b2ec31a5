package actionlog_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

type record struct {
	partition int
	value     string
}

type memory struct{ records []record }

func (m *memory) Produce(_ context.Context, _ string, partition int, recs ...kafka.Record) error {
	for _, r := range recs {
		m.records = append(m.records, record{partition, string(r.Value)})
	}
	return nil
}

func TestStepsOfAnActionStayInOrder(t *testing.T) {
	for _, a := range []schemas.Action{
		{Device: "pump-1", CertificateID: "c", ClientID: "pump-1"},
		{CertificateID: "c"},
		{ClientID: "pump-2"},
		*actionlog.Breaker("prod", schemas.ActionOpened, "too many", "", time.Now()),
	} {
		var m memory
		log := actionlog.New(&m, 64)
		a.ID, a.State = "x", schemas.ActionRequested
		if a.Kind == "" {
			a.Kind = schemas.KindQuarantine
		}
		first := a
		a.State, a.Thing, a.JobID, a.NewCertificateID, a.Approver = schemas.ActionDone, "thing", "job", "new", "me"
		for _, step := range []*schemas.Action{&first, &a} {
			if err := log.Append(t.Context(), step); err != nil {
				t.Fatal(err)
			}
		}
		if m.records[0].partition != m.records[1].partition {
			t.Errorf("%+v: partitions %d and %d", a, m.records[0].partition, m.records[1].partition)
		}
		got, err := actionlog.Parse([]byte(m.records[1].value))
		if err != nil || !cmp.Equal(*got, a, cmp.Comparer(func(x, y time.Time) bool { return x.Equal(y) })) {
			t.Errorf("got %+v, %v; want %+v", got, err, a)
		}
	}
}

func TestID(t *testing.T) {
	id := actionlog.ID("prod", "d", "revoke", "cert:c")
	if id != actionlog.ID("prod", "d", "revoke", "cert:c") {
		t.Error("not the same for the same")
	}
	for _, other := range []string{
		actionlog.ID("test", "d", "revoke", "cert:c"), actionlog.ID("prod", "e", "revoke", "cert:c"),
		actionlog.ID("prod", "d", "rotate", "cert:c"), actionlog.ID("prod", "d", "revoke", "cert:d"),
		actionlog.ID("prodd", "", "revoke", "cert:c"),
	} {
		if other == id {
			t.Error("the same for something else")
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":"x","time":"2026-11-23T12:00:00Z","kind":"revoke","state":"done"}`))
	f.Add([]byte(`{"id":""}`))
	f.Add([]byte(`{"id":"x","kind":"revoke","state":"done","time":"yesterday"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := actionlog.Parse(b)
		if err != nil {
			return
		}
		var m memory
		if err := actionlog.New(&m, 3).Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if _, err := actionlog.Parse([]byte(m.records[0].value)); err != nil {
			t.Fatal(err)
		}
	})
}

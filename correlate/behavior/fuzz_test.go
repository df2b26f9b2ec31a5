package behavior

import (
	"encoding/json"
	"testing"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// Anybody who may write to tocsin.identities may put anything there: a worker takes it
// over or leaves it, and goes on to make datapoints that are JSON.
func FuzzRestore(f *testing.F) {
	f.Add([]byte(`{"device":"p","client_id":"p","certificate_id":"`+testCertificate+`","first_seen":"2026-11-01T00:00:00Z","last_seen":"2026-11-20T09:59:00Z","usual_gap_seconds":60,"intervals":5000,"learned":"2026-11-20T09:55:00Z","baseline":{"num_messages_sent":{"mean":3,"deviation":0.1}},"addresses":[1,2,3,4,5,6,7,8,9]}`),
		[]byte(`{"partition":0,"closed":"2026-11-20T09:55:00Z","next":7,"interval_seconds":300,"interval_start":"2026-11-20T09:50:00Z","devices":3,"metrics":{"num_messages_sent":[[5,3],[9999,1]]},"lanes":{"firehose/logs":{"last":"2026-11-20T09:59:00Z","newest":"2026-11-20T09:59:00Z","seen":9}}}`))
	f.Add([]byte(`{"device":"p","last_seen":"9999-12-31T23:59:59Z","usual_gap_seconds":-1e300,"intervals":-5,"baseline":{"num_messages_sent":{"mean":-1e308,"deviation":1e308}}}`),
		[]byte(`{"partition":65537,"closed":"0001-01-01T00:00:00Z","interval_seconds":300,"metrics":{"x":[[0,0]]}}`))
	f.Fuzz(func(t *testing.T, device, share []byte) {
		out := &sent{}
		r := NewReplay(Options{Producer: out, Logger: zap.NewNop(), LeastFleet: 1}, 0, 1, 1)
		r.w.restoreRecord(&kafka.FetchedRecord{Key: []byte("device/p"), Value: device})
		r.w.s.fleet.take(&kafka.FetchedRecord{Key: []byte("fleet/0"), Value: share})
		for i, e := range []*event{at(1, "p", "Publish-In"), at(2, "p", "Disconnect"), at(340, "q", "Ping"), at(90_000, "q", "Ping"), at(90_031, "q", "Ping")} {
			r.Record(t.Context(), &kafka.FetchedRecord{Offset: int64(i), Value: encode(e)})
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, ev := range out.events {
			if !json.Valid(ev.Message) || string(ev.Source) != schemas.SourceBehavior {
				t.Errorf("%s", ev.Message)
			}
		}
	})
}

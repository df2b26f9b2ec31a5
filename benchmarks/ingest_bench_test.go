package benchmarks

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/valyala/fastjson"

	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	ingestEvents  = 1024 // in a payload
	ingestDevices = 100_000
)

// ingestPayloads makes n gzipped CloudWatch Logs payloads of ingestEvents IoT log
// lines each, from ingestDevices devices, in about the mixture of a fleet that
// publishes. They also return one payload before compression.
func ingestPayloads(tb testing.TB, n int) (zipped [][]byte, raw []byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	type device struct{ client, cert, ip string }
	devices := make([]device, ingestDevices)
	for i := range devices {
		var sum [32]byte
		for j := range sum {
			sum[j] = byte(rng.Uint32())
		}
		devices[i] = device{
			client: fmt.Sprintf("pump-%06d", i),
			cert:   hex.EncodeToString(sum[:]),
			ip:     fmt.Sprintf("198.51.%d.%d", rng.IntN(256), rng.IntN(256)),
		}
	}
	uuid := func() string {
		return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", rng.Uint32(), rng.Uint32()&0xffff, rng.Uint32()&0xffff, rng.Uint32()&0xffff, rng.Uint64()&0xffffffffffff)
	}
	start := time.Now().UTC().Add(-time.Minute)
	for p := range n {
		type logEvent struct {
			ID        string `json:"id"`
			Timestamp int64  `json:"timestamp"`
			Message   string `json:"message"`
		}
		events := make([]logEvent, ingestEvents)
		for i := range events {
			d := devices[rng.IntN(len(devices))]
			at := start.Add(time.Duration(i) * time.Millisecond)
			kind, topic, extra := "Publish-In", `,"topicName":"fleet/`+d.client+`/telemetry"`, ""
			switch rng.IntN(20) {
			case 0:
				kind, topic = "Connect", ""
			case 1:
				kind, topic, extra = "Disconnect", "", `,"reason":"CLIENT_INITIATED_DISCONNECT","details":"Client initiated \"clean\" disconnect","disconnectReason":"CLIENT_INITIATED_DISCONNECT"`
			case 2, 3, 4, 5, 6:
				kind = "Publish-Out"
			}
			events[i] = logEvent{
				ID:        fmt.Sprintf("3995530%049d", p*ingestEvents+i),
				Timestamp: at.UnixMilli(),
				Message: fmt.Sprintf(`{"timestamp":"%s","logLevel":"INFO","traceId":"%s","accountId":"111122223333","status":"Success","eventType":"%s","protocol":"MQTT"%s,"clientId":"%s","principalId":"%s","sourceIp":"%s","sourcePort":%d%s}`,
					at.Format("2006-01-02 15:04:05.000"), uuid(), kind, topic, d.client, d.cert, d.ip, 1024+rng.IntN(60000), extra),
			}
		}
		list, err := json.Marshal(events)
		if err != nil {
			tb.Fatal(err)
		}
		raw = fmt.Appendf(nil, `{"messageType":"DATA_MESSAGE","owner":"111122223333","logGroup":"AWSIotLogsV2","logStream":"s","subscriptionFilters":["all"],"logEvents":%s}`, list)
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		if _, err := w.Write(raw); err != nil {
			tb.Fatal(err)
		}
		if err := w.Close(); err != nil {
			tb.Fatal(err)
		}
		zipped = append(zipped, buf.Bytes())
	}
	return zipped, raw
}

// BenchmarkIngest compares what ingest does with a payload, up to the bytes that
// go to Kafka, with the floor that nobody who has to look into it can go below:
// inflating it and parsing the outer JSON once. In the case "ratio" the two take
// turns, so that both see the same machine; the bar for its metric ratio is 2.5.
func BenchmarkIngest(b *testing.B) {
	payloads, raw := ingestPayloads(b, 16)

	var reader *gzip.Reader
	var source bytes.Reader
	var parser fastjson.Parser
	inflated := bytes.NewBuffer(make([]byte, 0, 2*len(raw)))
	gunzip := func(payload []byte) {
		source.Reset(payload)
		var err error
		if reader == nil {
			reader, err = gzip.NewReader(&source)
		} else {
			err = reader.Reset(&source)
		}
		if err != nil {
			b.Fatal(err)
		}
		inflated.Reset()
		if _, err := io.Copy(inflated, reader); err != nil {
			b.Fatal(err)
		}
	}
	floor := func(payload []byte) {
		gunzip(payload)
		if _, err := parser.ParseBytes(inflated.Bytes()); err != nil {
			b.Fatal(err)
		}
	}

	decoder := decode.New(decode.Options{Bindings: identity.NewBindings(0)})
	var batch schemas.BatchEncoder
	emit := func(ev *schemas.Event) { batch.Append(ev, "firehose/0") }
	reject := func(r decode.Rejection) { b.Fatal(r.Err) }
	received := time.Now()
	ingest := func(payload []byte) {
		batch.Reset()
		decoder.Decode(payload, decode.Hints{Received: received}, emit, reject)
		if batch.Len() != ingestEvents {
			b.Fatalf("%d events, want %d", batch.Len(), ingestEvents)
		}
	}
	inflate := func(fn func([]byte)) func(*testing.B) {
		return func(b *testing.B) {
			for _, payload := range payloads {
				fn(payload) // buffers grow, bindings are learnt
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				fn(payloads[i%len(payloads)])
				i++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/ingestEvents, "ns/event")
			b.SetBytes(int64(len(raw)))
		}
	}
	b.Run("gunzip", inflate(gunzip))
	b.Run("floor", inflate(floor))
	b.Run("decode-and-encode", inflate(ingest))
	b.Run("ratio", func(b *testing.B) {
		// The payloads are alike, so the least time that any of them took is what one
		// costs: whatever else the machine does only adds.
		var floorTime, ingestTime time.Duration
		atLeast := func(least *time.Duration, fn func([]byte), payload []byte) {
			start := time.Now()
			fn(payload)
			if took := time.Since(start); *least == 0 || took < *least {
				*least = took
			}
		}
		for b.Loop() {
			for _, payload := range payloads {
				atLeast(&floorTime, floor, payload)
				atLeast(&ingestTime, ingest, payload)
			}
		}
		b.ReportMetric(float64(ingestTime)/float64(floorTime), "ratio")
		b.ReportMetric(float64(floorTime)/ingestEvents, "floor-ns/event")
		b.ReportMetric(float64(ingestTime)/ingestEvents, "ns/event")
	})
}

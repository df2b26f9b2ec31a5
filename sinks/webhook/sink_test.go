package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

func TestDelivery(t *testing.T) {
	r := newReceiver(t, nil)
	h := start(t, r.URL, func(o *Options) { o.Headers = map[string]string{"Authorization": "Bearer x"} })
	p := h.open(t, 0)
	write(t, p, record(t, 0, finding("d1", schemas.ActivityCreate, "high")))
	waitIdle(t, p)
	if len(r.got) != 1 {
		t.Fatalf("%d requests", len(r.got))
	}
	got := r.got[0]
	seconds, err := strconv.ParseInt(got.timestamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
		t.Errorf("timestamp %q: %v", got.timestamp, err)
	}
	if want := h.sink.signer.sign("d1_created", time.Unix(seconds, 0), got.body); got.signature != want || got.id != "d1_created" {
		t.Errorf("id %s, signature %s, want %s", got.id, got.signature, want)
	}
	if got.header.Get("Content-Type") != "application/json" || got.header.Get("Authorization") != "Bearer x" {
		t.Errorf("headers %v", got.header)
	}
	if n := metric(t, h.registry, "tocsin_notifications_total", "integration", "test"); n != 1 {
		t.Errorf("tocsin_notifications_total is %v", n)
	}
}

func TestFilters(t *testing.T) {
	r := newReceiver(t, nil)
	h := start(t, r.URL, func(o *Options) {
		o.MinLevel, o.Activities, o.Concurrency = "high", []string{ActivityCreated, ActivityClosed}, 1
	})
	p := h.open(t, 0)
	for i, f := range []*schemas.Finding{
		finding("low", schemas.ActivityCreate, "low"),
		finding("medium", schemas.ActivityCreate, "medium"),
		finding("high", schemas.ActivityCreate, "high"),
		finding("high", schemas.ActivityUpdate, "high"),
		finding("high", schemas.ActivityClose, "high"),
		finding("critical", schemas.ActivityCreate, "critical"),
		finding("odd", schemas.ActivityCreate, "apocalyptic"),
	} {
		write(t, p, record(t, int64(i), f))
	}
	waitIdle(t, p)
	if diff := cmp.Diff([]string{"high_created", "high_closed", "critical_created", "odd_created"}, r.ids()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestMalformedIsRejected(t *testing.T) {
	h := start(t, newReceiver(t, nil).URL, nil)
	p := h.open(t, 0)
	for _, value := range []string{"", "null", "[]", "{", `{"class_uid":2004}`, `{"class_uid":2004,"finding_info":{"uid":"a"}}`, `{"class_uid":1,"activity_id":1,"finding_info":{"uid":"a"}}`} {
		err := p.Write(t.Context(), &sinks.Record{Value: []byte(value)})
		var why *sinks.Rejected
		if !errors.As(err, &why) || why.Reason != sinks.ReasonMalformed {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestTwoAnswersAreOne(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var requests atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					requests.Add(1)
					const answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
					_, _ = io.WriteString(c, answer+"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
				}
			}()
		}
	}()
	h := start(t, "http://"+l.Addr().String(), func(o *Options) { o.Concurrency = 1 })
	p := h.open(t, 0)
	for i := range int64(5) {
		write(t, p, record(t, i, finding(fmt.Sprintf("d%d", i), schemas.ActivityCreate, "high")))
	}
	waitIdle(t, p)
	if n := requests.Load(); n != 5 {
		t.Errorf("%d requests for 5 messages", n)
	}
	if got := h.letters.list(); len(got) != 0 {
		t.Errorf("dead letters %q", got)
	}
}

func TestReplayIsNotSentAgain(t *testing.T) {
	r := newReceiver(t, nil)
	h := start(t, r.URL, func(o *Options) { o.Activities = []string{ActivityCreated, ActivityUpdated} })
	p := h.open(t, 0)
	history := records{}
	for i := range int64(3) {
		rec := record(t, i, finding(fmt.Sprintf("d%d", i), schemas.ActivityCreate, "high"))
		history = append(history, rec)
		write(t, p, rec)
	}
	// The correlator replays while the sink runs.
	write(t, p, record(t, 3, finding("d0", schemas.ActivityCreate, "high")))
	waitIdle(t, p)
	// And after the sink was started anew.
	again := start(t, r.URL, func(o *Options) {
		o.Activities = []string{ActivityCreated, ActivityUpdated}
		o.History = history
	})
	p = again.open(t, 4)
	for i := range int64(3) {
		write(t, p, record(t, i+4, finding(fmt.Sprintf("d%d", i), schemas.ActivityCreate, "high")))
	}
	write(t, p, record(t, 7, finding("d0", schemas.ActivityUpdate, "high")))
	waitIdle(t, p)
	ids := r.ids()
	if len(ids) != 4 || ids[3] != "d0_updated_1" {
		t.Errorf("requests %q", ids)
	}
}

func TestOrderPerDetection(t *testing.T) {
	var inFlight, most atomic.Int32
	r := newReceiver(t, func(n int, g *received, w http.ResponseWriter) {
		most.Store(max(most.Load(), inFlight.Add(1)))
		defer inFlight.Add(-1)
		time.Sleep(time.Millisecond)
		if n%3 == 0 {
			w.WriteHeader(500)
		}
	})
	h := start(t, r.URL, func(o *Options) {
		o.Activities = []string{ActivityUpdated}
		o.Concurrency = 3
	})
	p := h.open(t, 0)
	offset := int64(0)
	for revision := range int64(10) {
		for d := range 6 {
			f := finding(fmt.Sprintf("d%d", d), schemas.ActivityUpdate, "high")
			f.Unmapped.Revision = revision
			write(t, p, record(t, offset, f))
			offset++
		}
	}
	waitIdle(t, p)
	last := map[string]int{}
	for _, id := range r.ids() {
		detection, revision, _ := strings.Cut(id, "_updated_")
		n, err := strconv.Atoi(revision)
		if err != nil || n < last[detection] {
			t.Fatalf("%s came after revision %d", id, last[detection])
		}
		last[detection] = n
	}
	if len(last) != 6 {
		t.Errorf("%d detections", len(last))
	}
	if m := most.Load(); m > 3 {
		t.Errorf("%d requests at a time, want at most 3", m)
	}
}

func TestStoredWaitsForTheSlowest(t *testing.T) {
	release := make(chan struct{})
	r := newReceiver(t, func(_ int, g *received, _ http.ResponseWriter) {
		if g.id == "slow_created" {
			<-release
		}
	})
	h := start(t, r.URL, func(o *Options) { o.Concurrency = 8 })
	p := h.open(t, 10)
	write(t, p, record(t, 10, finding("slow", schemas.ActivityCreate, "high")))
	sent := 1
	for i := int64(11); sent < 6; i++ {
		f := finding(fmt.Sprintf("d%d", i), schemas.ActivityCreate, "high")
		if h.sink.queue(f.FindingInfo.UID) == h.sink.queue("slow") {
			continue
		}
		write(t, p, record(t, i, f))
		sent++
	}
	eventually(t, "the others", func() bool { return len(r.ids()) == 6 })
	if next, idle := p.Stored(); next != 10 || idle {
		t.Errorf("stored up to %d, idle %v, before the first is done", next, idle)
	}
	close(release)
	waitIdle(t, p)
}

func TestNothingSecretIsLogged(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	log := zap.New(core)
	r := newReceiver(t, func(n int, _ *received, w http.ResponseWriter) { w.WriteHeader(400) })
	h := start(t, r.URL+"/hooks/T0PSECRETPATH", func(o *Options) {
		o.Logger = log
		o.Headers = map[string]string{"X-Key": "T0PSECRETHEADER"}
		o.Status = sinks.NewStatus("test", o.Metrics, log)
	})
	p := h.open(t, 0)
	write(t, p, record(t, 0, finding("d", schemas.ActivityCreate, "high")))
	waitIdle(t, p)
	r.CloseClientConnections()
	r.Close()
	write(t, p, record(t, 1, finding("d2", schemas.ActivityCreate, "high")))
	eventually(t, "failure", func() bool { return h.opts.Status.Err() != nil })
	text := h.opts.Status.Err().Error()
	for _, e := range logs.All() {
		text += fmt.Sprintln(e.Message, e.ContextMap())
	}
	for _, secret := range []string{"T0PSECRET", testSecret('k'), strings.TrimPrefix(testSecret('k'), "whsec_")} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in: %s", secret, text)
		}
	}
	if len(logs.All()) == 0 {
		t.Error("nothing was logged")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no host":        func(o *Options) { o.URL = "https://" },
		"scheme":         func(o *Options) { o.URL = "ftp://example.com" },
		"user in url":    func(o *Options) { o.URL = "https://user:secret@example.com" },
		"level":          func(o *Options) { o.MinLevel = "urgent" },
		"activity":       func(o *Options) { o.Activities = []string{"opened"} },
		"header":         func(o *Options) { o.Headers = map[string]string{"webhook-signature": "x"} },
		"proxy":          func(o *Options) { o.ProxyURL = "nothing" },
		"CA file":        func(o *Options) { o.CAFile = "/nonexistent" },
		"secret":         func(o *Options) { o.Secrets = []string{"whsec_"} },
		"metadata":       func(o *Options) { o.URL = "http://169.254.169.254/" },
		"mapped address": func(o *Options) { o.URL = "http://[::ffff:10.0.0.1]/" },
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Name: "x", URL: "https://example.com", Secrets: []string{testSecret('k')}}
			if _, err := New(o); err != nil {
				t.Fatal(err)
			}
			change(&o)
			if _, err := New(o); err == nil {
				t.Error("accepted")
			} else if strings.Contains(err.Error(), "secret@") {
				t.Errorf("error shows the password: %v", err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	b, _ := json.Marshal(finding("d", schemas.ActivityCreate, "high"))
	f.Add(b)
	f.Add([]byte(`{"class_uid":2004,"activity_id":1,"finding_info":{"uid":"\ud800"},"evidences":[{}]}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		found, err := parse(value)
		if err != nil {
			return
		}
		if id := messageID(found); strings.Contains(id, ".") {
			t.Fatalf("ID %q", id)
		}
		if b, err := body(found); err == nil && (len(b) > maxBody || !json.Valid(b)) {
			t.Fatalf("%d bytes: %.100s", len(b), b)
		}
	})
}

package registry

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/tocsin-io/tocsin/internal/identities"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// settle is how long after the news that the registry is complete an ID that is
	// not in the table is UNKNOWN. The news is a record of one partition, the
	// certificates are in all of them, and may come a little later.
	settle = 10 * time.Second
	// maxSyncs bounds the sources whose completeness is kept.
	maxSyncs = 1024
)

// Why a record of the topic was passed over; a metric label.
const (
	reasonNotJSON  = "not_json"
	reasonKey      = "key" // the record is of another ID than its key, or of none
	reasonTooLarge = "too_large"
	reasonFull     = "full"
)

// follower fills a table from the topic.
type follower struct {
	table   *Table
	topic   *identities.Follower
	refused *prometheus.CounterVec
	log     *zap.Logger
	often   rate.Sometimes

	mu    sync.Mutex
	syncs map[string]bool // by source: it was complete once
}

// Follow fills a table with the certificates that topic reads, and has it complete
// when a source of the registry is. It must be called before the topic is loaded,
// and the table must not be used before it is.
func Follow(topic *identities.Follower, table *Table, log *zap.Logger, reg prometheus.Registerer) {
	f := &follower{
		table: table, topic: topic, log: log, often: rate.Sometimes{First: 3, Interval: time.Minute},
		syncs: make(map[string]bool),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tocsin_certificates_refused_total",
			Help: "Records of certificates in tocsin.identities that could not be taken into memory, by reason.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{reasonNotJSON, reasonKey, reasonTooLarge, reasonFull} {
		f.refused.WithLabelValues(reason)
	}
	if reg != nil {
		reg.MustRegister(f.refused)
		table.register(reg)
	}
	topic.Handle(schemas.KeyCertificate, f.certificate)
	topic.Handle(schemas.KeySync, f.sync)
}

func (f *follower) certificate(key, value []byte) {
	id := string(key)
	if len(value) == 0 {
		f.table.Delete(id)
		return
	}
	var c schemas.Certificate
	err := json.Unmarshal(value, &c)
	reason := ""
	switch {
	case err != nil:
		reason = reasonNotJSON
	case c.ID != id:
		reason, err = reasonKey, ErrID
	default:
		switch err = f.table.Put(&c); {
		case err == nil:
			return
		case errors.Is(err, ErrTooLarge):
			reason = reasonTooLarge
		case errors.Is(err, ErrFull):
			reason = reasonFull
		default:
			reason = reasonKey
		}
	}
	f.refused.WithLabelValues(reason).Inc()
	f.often.Do(func() {
		f.log.Warn("a record of a certificate was passed over; more of them are only counted for a while",
			zap.String("topic", schemas.TopicIdentities), zap.String("reason", reason), zap.ByteString("key", key[:min(len(key), 80)]), zap.Error(err))
	})
}

func (f *follower) sync(key, value []byte) {
	var s schemas.Sync
	if len(value) > 0 && json.Unmarshal(value, &s) != nil {
		f.refused.WithLabelValues(reasonNotJSON).Inc()
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.complete()
	source := string(key)
	if !s.FirstComplete.IsZero() && len(f.syncs) < maxSyncs {
		f.syncs[source] = true
	} else {
		delete(f.syncs, source)
	}
	switch is := f.complete(); {
	case is == was:
	case !is:
		f.table.SetComplete(time.Time{})
		f.log.Warn("the registry is not complete any more: unknown certificates are not marked as such")
	case f.topic.Loaded():
		f.table.SetComplete(time.Now().Add(settle))
		f.log.Info("the registry is complete", zap.Strings("sources", slices.Sorted(maps.Keys(f.syncs))))
	default:
		f.table.SetComplete(time.UnixMilli(0))
	}
}

func (f *follower) complete() bool { return len(f.syncs) > 0 }

// register exposes what the table holds.
func (t *Table) register(reg prometheus.Registerer) {
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tocsin_certificates" + name, Help: help}, value))
	}
	counter := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "tocsin_certificates_" + name, Help: help}, value))
	}
	gauge("", "Certificates in memory.", func() float64 { return float64(t.Len()) })
	gauge("_bytes", "Memory that the certificates take, indexes included.", func() float64 { return float64(t.Stats().Bytes) })
	gauge("_dead_bytes", "Part of tocsin_certificates_bytes that waits to be used again.", func() float64 { return float64(t.Stats().DeadBytes) })
	gauge("_complete", "1 when a certificate that is not in memory is unknown, 0 while the registry has not listed all of them once.", func() float64 {
		if t.Complete(time.Now()) {
			return 1
		}
		return 0
	})
	counter("texts_full_total", "Texts that certificates share and that found no room to be kept once.", func() float64 { return float64(t.Stats().TextsFull) })
	counter("unknown_total", "Certificates that events were of and that are not in the registry, about.", func() float64 {
		seen, _, _ := t.strangers.counts()
		return float64(seen)
	})
	counter("unknown_events_total", "Events of certificates that are not in the registry.", func() float64 {
		_, events, _ := t.strangers.counts()
		return float64(events)
	})
	counter("unknown_forgotten_total", "Times that the filter of unknown certificates was full and began anew: they are counted again.", func() float64 {
		_, _, rebuilds := t.strangers.counts()
		return float64(rebuilds)
	})
}

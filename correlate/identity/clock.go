package identity

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/schemas"
)

// clockState is the state of syncClock.
type clockState struct {
	// Checked is the time up to which thresholds have been told.
	Checked time.Time `json:"checked"`
}

const (
	// clockTick is how often it is decided whether to look at all records.
	clockTick = 5 * time.Second
	// clockShare bounds the time spent in looking: one part in so many.
	clockShare = 50
	// dueBatch is how many findings are made between two flushes.
	dueBatch = 1000
	// maxForgotten bounds the records that one look removes.
	maxForgotten = 10_000
)

// clock compares the time with all records: at least every CheckInterval, and
// sooner when records have changed and looking at all of them takes no time.
func (t *term) clock(ctx context.Context) error {
	var state clockState
	if err := t.syncState(syncClock, &state); err != nil {
		return err
	}
	if state.Checked.IsZero() {
		// What had passed before is told of every certificate when it is read.
		state.Checked = time.Now().UTC()
	}
	var last time.Time // end of the last look
	var saved time.Time
	var took time.Duration
	told := make(map[uint64]uint64)
	ticker := time.NewTicker(clockTick)
	defer ticker.Stop()
	for {
		t.mu.Lock()
		dirty := t.dirty
		t.mu.Unlock()
		idle := time.Since(last)
		if idle >= t.opts.CheckInterval || dirty && idle >= clockShare*took {
			now := time.Now().UTC()
			found, err := t.look(ctx, state.Checked, now, told)
			if err != nil {
				return err
			}
			if found || now.Sub(saved) >= t.opts.CheckInterval {
				state.Checked = now
				if err := t.saveSync(ctx, syncClock, state, false); err != nil {
					return err
				}
				saved = now
			}
			last, took = time.Now(), time.Since(now)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// look goes through all records once: what fell due in (from, now] is told and
// published, what nobody needs is forgotten, and all is counted.
func (t *term) look(ctx context.Context, from, now time.Time, told map[uint64]uint64) (found bool, err error) {
	var due, forget []string
	var keys []uint64
	counts := newCounts(now)
	t.mu.Lock()
	t.dirty = false
	t.mu.Unlock()
	// The table may be read while others write to it.
	t.certs.Range(func(c *schemas.Certificate) bool {
		counts.add(c, now)
		switch {
		case c.Status == schemas.CertUnknown:
			if len(forget) < maxForgotten && t.forgettable(c, now) {
				forget = append(forget, c.ID)
			}
		case live(c) && described(c):
			if len(t.detect.passed(c, from, now)) > 0 {
				due = append(due, c.ID)
			}
			keys = append(keys, keyPrefix(c))
		}
		return ctx.Err() == nil
	})
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	t.mu.Lock()
	for _, id := range forget {
		if c, ok := t.certs.Get(id); ok && t.forgettable(&c, now) {
			t.certs.Delete(id)
			t.pending.forgot[id] = struct{}{}
		}
	}
	before := len(t.pending.findings)
	for _, ca := range t.cas {
		t.tell(now, now, t.detect.passedCA(&ca.CertificateAuthority, from, now)...)
	}
	found = len(due) > 0 || len(t.pending.findings) > before
	counts.finish(t.Service, true)
	t.mu.Unlock()
	t.metrics.forgotten.Add(float64(len(forget)))
	for batch := range slices.Chunk(due, dueBatch) {
		t.mu.Lock()
		for _, id := range batch {
			if c, ok := t.certs.Get(id); ok {
				t.tell(now, now, t.detect.passed(&c, from, now)...)
			}
		}
		t.mu.Unlock()
		if err := t.flushWhenFull(ctx); err != nil {
			return false, err
		}
	}
	t.findDuplicates(now, keys, told)
	return found, t.flush(ctx)
}

// forgettable reports whether nobody needs the record any more: the certificate is
// not registered and was not seen for long.
func (t *term) forgettable(c *schemas.Certificate, now time.Time) bool {
	idle := now.Add(-t.opts.ForgetAfter)
	return c.Status == schemas.CertUnknown && c.StatusSince.Before(idle) && c.LastSeen.Before(idle)
}

// keyPrefix is the beginning of the key's hash, 0 without one.
func keyPrefix(c *schemas.Certificate) uint64 {
	var b [8]byte
	if len(c.Key.SHA256) < 16 {
		return 0
	}
	if _, err := hex.Decode(b[:], []byte(c.Key.SHA256[:16])); err != nil {
		return 0
	}
	return binary.BigEndian.Uint64(b[:])
}

// maxDuplicates bounds the keys of which one look tells that several certificates
// have them.
const maxDuplicates = 10_000

// findDuplicates tells of the keys that several certificates have. prefixes are
// those of all keys; told is what has been told, by key: it is told again when
// another certificate joins, and after a restart, with the same ID.
func (t *term) findDuplicates(now time.Time, prefixes []uint64, told map[uint64]uint64) {
	slices.Sort(prefixes)
	double := make(map[uint64][]*schemas.Certificate)
	for i := 1; i < len(prefixes) && len(double) < maxDuplicates; i++ {
		if prefixes[i] == prefixes[i-1] && prefixes[i] != 0 {
			double[prefixes[i]] = nil
		}
	}
	if len(double) == 0 {
		return
	}
	t.certs.Range(func(c *schemas.Certificate) bool {
		if same, ok := double[keyPrefix(c)]; ok && live(c) && described(c) {
			kept := clone(c)
			double[keyPrefix(c)] = append(same, &kept)
		}
		return true
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	for prefix, same := range double {
		if len(same) < 2 {
			continue
		}
		slices.SortFunc(same, func(a, b *schemas.Certificate) int { return strings.Compare(a.ID, b.ID) })
		ids := make([]string, len(same))
		for i, c := range same {
			ids[i] = c.ID
		}
		all := schemas.NewEventID([]byte(strings.Join(ids, "")))
		fingerprint := binary.BigEndian.Uint64(all[:])
		if told[prefix] == fingerprint {
			continue
		}
		if len(told) >= maxDuplicates {
			clear(told) // what it tells again has the same ID
		}
		told[prefix] = fingerprint
		f := newFinding(eventDuplicateKey, map[string]any{
			"key_sha256": same[0].Key.SHA256, "key_type": same[0].Key.Type, "certificate_ids": ids[:min(len(ids), maxFindingNames)], "count": len(ids),
		}, same[0].Key.SHA256, all.String())
		t.tell(now, now, f.about(same[0], now))
	}
}

package identity

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/inventory"
	"github.com/tocsin-io/tocsin/schemas"
)

// inventoryTarget is the registry as an inventory sees it.
type inventoryTarget struct{ *term }

// Certificate implements inventory.Registry.
func (t inventoryTarget) Certificate(id string) (schemas.Certificate, bool) {
	return t.certs.Get(id)
}

// Select implements inventory.Registry.
func (t inventoryTarget) Select(n int, match func(c *schemas.Certificate) bool) (ids []string) {
	t.certs.Range(func(c *schemas.Certificate) bool {
		if match(c) && !slices.Contains(ids, c.ID) { // Range may give one twice
			ids = append(ids, c.ID)
		}
		return len(ids) < n
	})
	return ids
}

// Merge implements inventory.Registry.
func (t inventoryTarget) Merge(ctx context.Context, facts ...inventory.Fact) error {
	t.mu.Lock()
	for i := range facts {
		t.mergeFact(&facts[i])
	}
	t.mu.Unlock()
	return t.flushWhenFull(ctx)
}

// mergeFact merges what AWS says of a certificate. mu is held.
func (t inventoryTarget) mergeFact(f *inventory.Fact) {
	if t.account == "" {
		t.account = f.Account
	}
	var disagreements []finding
	var before schemas.Certificate
	t.update(f.ID, func(c *schemas.Certificate) bool {
		before = clone(c)
		if f.Gone {
			return setStatus(c, schemas.CertUnknown, f.Asked, reasonNotFound)
		}
		changed, disagrees := setInventoryStatus(c, f.Status, f.Asked, f.Modified)
		if disagrees {
			disagreements = append(disagreements, newFinding(eventDisagreement, map[string]any{
				"registry": before.Status.String(), "aws": f.Status.String(), "registry_reason": before.StatusReason,
			}, f.ID, before.Status.String(), millis(before.StatusSince), f.Status.String()))
		}
		if f.Certificate != nil {
			if f.Certificate.ID != f.ID {
				disagreements = append(disagreements, newFinding(eventDisagreement, map[string]any{
					"registry": f.ID, "aws": f.Certificate.ID, "registry_reason": "the ID is not the hash of the certificate that AWS IoT has for it",
				}, f.ID, f.Certificate.ID))
			}
			if described(c) && (c.Serial != f.Certificate.Serial || !c.NotAfter.Equal(f.Certificate.NotAfter)) {
				disagreements = append(disagreements, newFinding(eventDisagreement, map[string]any{
					"registry": fmt.Sprintf("serial %s, not after %s", c.Serial, rfc3339(c.NotAfter)),
					"aws":      fmt.Sprintf("serial %s, not after %s", f.Certificate.Serial, rfc3339(f.Certificate.NotAfter)),
				}, f.ID, f.Certificate.Serial, millis(f.Certificate.NotAfter)))
			}
			changed = mergeParsed(c, f.Certificate) || changed
		}
		if f.CAID != "" && c.CAID != f.CAID {
			c.CAID = f.CAID
			changed = true
		}
		if !f.Created.IsZero() && c.Created.IsZero() {
			c.Created = f.Created
			changed = true
		}
		if f.HasThings && !slices.Equal(c.Things, f.Things) {
			c.Things = f.Things
			changed = true
		}
		return changed
	})
	now := time.Now().UTC()
	about := before
	if c, ok := t.certs.Get(f.ID); ok {
		about = c
	}
	for _, d := range disagreements {
		t.tell(now, now, d.about(&about, now))
	}
	if f.Unreadable != nil {
		t.log.Warn("a certificate of AWS IoT cannot be read", zap.String("certificate_id", f.ID), zap.Error(f.Unreadable))
		text := clip(f.Unreadable.Error(), maxFindingErrorSize)
		t.tell(now, now, newFinding(eventUnreadable, map[string]any{"error": text}, f.ID, text).about(&about, now))
	}
}

// MergeCA implements inventory.Registry.
func (t inventoryTarget) MergeCA(ctx context.Context, ca inventory.CA) error {
	a := authorityOf(ca.Certificate, ca.PEM)
	a.ID, a.Status = ca.ID, ca.Status
	t.mu.Lock()
	t.putCA(a)
	t.mu.Unlock()
	return t.flushWhenFull(ctx)
}

// Save implements inventory.Registry.
func (t inventoryTarget) Save(ctx context.Context, s inventory.State) error {
	return t.saveSync(ctx, syncInventory, s, !s.Complete.IsZero())
}

// Problem implements inventory.Registry.
func (t inventoryTarget) Problem(_ context.Context, err error) { t.syncFailed(syncInventory, err) }

// syncFailed tells that a source cannot be read, at most once an hour for each.
func (t *term) syncFailed(source string, err error) {
	now := time.Now().UTC()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.metrics.syncFailures.WithLabelValues(source).Inc()
	f := newFinding(eventSyncFailed, map[string]any{"source": source, "error": clip(err.Error(), maxFindingErrorSize)},
		source, rfc3339(now.Truncate(time.Hour)))
	t.tell(now, now, f)
}

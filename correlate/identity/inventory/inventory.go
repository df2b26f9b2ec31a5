// Package inventory reads the certificates and CAs that AWS IoT has into the
// registry, inside the API's rate limits and over restarts.
//
// A cycle lists everything: CAs first, then all certificates with their states,
// 250 in a call, then which CA registered which. Half a million certificates are
// listed in seven minutes at half of AWS's quota, and from then on an ID that is
// not among them is unknown. What the certificates themselves say takes a call
// each, 14 hours at the whole quota: that goes on in the background, with the ones
// that logs show and the registry does not know first, then those whose state
// changed, then the rest. What is left to do is what the registry has not read
// yet, so a restart loses nothing.
//
// Facts of the API: aws-formats 6.3 and 6.4.
package inventory

import (
	"context"
	"errors"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/certificate"
	"github.com/tocsin-io/tocsin/schemas"
)

// API is the part of AWS IoT's API that an inventory needs; *iot.Client has it.
type API interface {
	ListCertificates(context.Context, *iot.ListCertificatesInput, ...func(*iot.Options)) (*iot.ListCertificatesOutput, error)
	DescribeCertificate(context.Context, *iot.DescribeCertificateInput, ...func(*iot.Options)) (*iot.DescribeCertificateOutput, error)
	ListCACertificates(context.Context, *iot.ListCACertificatesInput, ...func(*iot.Options)) (*iot.ListCACertificatesOutput, error)
	DescribeCACertificate(context.Context, *iot.DescribeCACertificateInput, ...func(*iot.Options)) (*iot.DescribeCACertificateOutput, error)
	ListCertificatesByCA(context.Context, *iot.ListCertificatesByCAInput, ...func(*iot.Options)) (*iot.ListCertificatesByCAOutput, error)
	ListPrincipalThings(context.Context, *iot.ListPrincipalThingsInput, ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error)
}

// Registry is what an inventory is compared with and merged into. Its methods may
// be called from several goroutines.
type Registry interface {
	// Certificate returns the record of an ID.
	Certificate(id string) (schemas.Certificate, bool)
	// Select returns the IDs of up to n certificates that match. match must not
	// call the registry.
	Select(n int, match func(c *schemas.Certificate) bool) []string
	// Merge merges facts. It may block while too many are not acknowledged.
	Merge(ctx context.Context, facts ...Fact) error
	MergeCA(ctx context.Context, ca CA) error
	// Save stores s once everything merged before is acknowledged.
	Save(ctx context.Context, s State) error
	// Problem tells the operator of a cycle that failed.
	Problem(ctx context.Context, err error)
}

// Fact is what AWS says of a certificate. What it did not say is zero.
type Fact struct {
	ID       string
	Asked    time.Time // when AWS was asked
	Status   schemas.CertificateStatus
	Created  time.Time
	Modified time.Time // lastModifiedDate
	CAID     string
	Account  string
	// Certificate is what it says of itself; Unreadable why it could not be read.
	Certificate *certificate.Certificate
	Unreadable  error
	// Things is what the certificate is attached to, when HasThings.
	Things    []string
	HasThings bool
	// Gone says that AWS does not have it.
	Gone bool
}

// CA is what AWS says of a CA certificate.
type CA struct {
	ID, Status, PEM string
	Certificate     *certificate.Certificate
}

// State is how far an inventory is.
type State struct {
	Cycle    time.Time `json:"cycle"`             // beginning of the cycle that is or was done last
	Marker   string    `json:"marker,omitempty"`  // the next page of ListCertificates
	Listed   int       `json:"listed"`            // certificates in this cycle so far
	Complete time.Time `json:"complete,omitzero"` // end of the last listing
	Total    int       `json:"total"`             // certificates in the last complete listing
	Problem  string    `json:"problem,omitempty"` // why the last attempt failed
}

// Options of an Inventory. Client and Logger are needed.
type Options struct {
	Client API
	// Interval is the time from the beginning of one cycle to that of the next.
	// Default 1 h.
	Interval time.Duration
	// Quotas are AWS's limits in calls per second, by operation; those left out are
	// AWS's defaults. Share is how much of them is used; default 0.5.
	Quotas map[string]float64
	Share  float64
	// Concurrency is how many certificates are described at once. Default 4.
	Concurrency int
	Logger      *zap.Logger
	Registerer  prometheus.Registerer
}

// Inventory reads AWS IoT's certificates.
type Inventory struct {
	opts    Options
	log     *zap.Logger
	calls   *calls
	metrics *metrics
	queue   *queue
	syncNow chan struct{}
}

// New returns an Inventory that has not begun.
func New(opts Options) *Inventory {
	if opts.Interval <= 0 {
		opts.Interval = time.Hour
	}
	if opts.Share <= 0 {
		opts.Share = 0.5
	}
	if opts.Concurrency <= 0 {
		opts.Concurrency = 4
	}
	m := newMetrics(opts.Registerer)
	return &Inventory{
		opts: opts, log: opts.Logger, metrics: m,
		calls:   newCalls(opts.Quotas, opts.Share, m),
		queue:   newQueue(),
		syncNow: make(chan struct{}, 1),
	}
}

// Want asks for a certificate to be described before others: the logs show it
// and little is known of it, or something changed. It never blocks; what there is
// no room for is found by the next cycle.
func (v *Inventory) Want(id string) {
	if !v.queue.add(urgent, id) {
		v.metrics.dropped.Inc()
	}
}

// SyncNow begins a cycle as soon as none is under way.
func (v *Inventory) SyncNow() {
	select {
	case v.syncNow <- struct{}{}:
	default:
	}
}

// Run merges the inventory into reg until ctx ends, going on from state. It must
// not be called twice at the same time.
func (v *Inventory) Run(ctx context.Context, reg Registry, state State) error {
	v.queue.reset()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var describers sync.WaitGroup
	for range v.opts.Concurrency {
		describers.Go(func() {
			if err := v.describeAll(ctx, reg); err != nil {
				cancel(err)
			}
		})
	}
	v.queue.refill() // what an earlier process had not come to
	err := v.cycles(ctx, reg, state)
	cancel(err)
	describers.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// retryInterval is the wait after a cycle that failed; it doubles up to the
// interval.
const retryInterval = 15 * time.Second

func (v *Inventory) cycles(ctx context.Context, reg Registry, state State) error {
	retry := retryInterval
	for {
		wait := time.Until(state.Cycle.Add(v.opts.Interval))
		if state.Complete.Before(state.Cycle) {
			wait = 0 // it was interrupted
		}
		if state.Problem != "" {
			wait = retry
			retry = min(2*retry, v.opts.Interval)
		}
		timer := time.NewTimer(max(0, wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-v.syncNow:
			timer.Stop()
		case <-timer.C:
		}
		err := v.cycle(ctx, reg, &state)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			state.Problem = err.Error()
			v.log.Warn("the inventory of AWS IoT failed, will be repeated", zap.Error(err), zap.Int("listed", state.Listed), zap.Duration("in", retry))
			reg.Problem(ctx, err)
		default:
			state.Problem, retry = "", retryInterval
		}
		if err := reg.Save(ctx, state); err != nil {
			return err
		}
	}
}

// cycle lists everything, from where an interrupted one ended.
func (v *Inventory) cycle(ctx context.Context, reg Registry, state *State) error {
	resumed := state.Complete.Before(state.Cycle) && state.Marker != ""
	if !resumed {
		state.Cycle, state.Marker, state.Listed = time.Now().UTC(), "", 0
	}
	cas, err := v.listCAs(ctx, reg)
	if err := v.partly(ctx, reg, err); err != nil {
		return err
	}
	seen := newSeen()
	err = v.list(ctx, reg, state, seen)
	if isInvalidRequest(err) && resumed {
		// AWS does not take the marker of an earlier process any more.
		resumed, state.Marker, state.Listed = false, "", 0
		seen = newSeen()
		err = v.list(ctx, reg, state, seen)
	}
	if err != nil {
		return err
	}
	if err := v.partly(ctx, reg, v.listByCA(ctx, reg, cas)); err != nil {
		return err
	}
	if !resumed {
		v.lookForVanished(reg, state.Cycle, seen)
	}
	state.Complete, state.Total = time.Now().UTC(), state.Listed
	v.metrics.completed.Set(float64(state.Complete.Unix()))
	v.queue.retry()
	v.queue.refill()
	v.log.Info("inventory of AWS IoT", zap.Int("certificates", state.Total), zap.Int("cas", len(cas)), zap.Duration("took", state.Complete.Sub(state.Cycle)))
	return nil
}

// partly tells of what failed about CAs, and goes on: that part of the API is not
// allowed, or not there, is no reason to know nothing of the certificates.
func (v *Inventory) partly(ctx context.Context, reg Registry, err error) error {
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	v.log.Warn("the CAs of AWS IoT could not be listed; the next cycle tries again", zap.Error(err))
	reg.Problem(ctx, err)
	return nil
}

const (
	pageSize = 250 // the API's most
	// savePages is how many pages of a listing are done again at most after a
	// restart.
	savePages = 20
)

func (v *Inventory) list(ctx context.Context, reg Registry, state *State, seen *seen) error {
	for pages := 1; ; pages++ {
		in := &iot.ListCertificatesInput{PageSize: aws.Int32(pageSize), AscendingOrder: true}
		if state.Marker != "" {
			in.Marker = &state.Marker
		}
		asked := time.Now().UTC()
		var out *iot.ListCertificatesOutput
		err := v.calls.do(ctx, opListCertificates, func(ctx context.Context) (err error) {
			out, err = v.opts.Client.ListCertificates(ctx, in)
			return err
		})
		if err != nil {
			return err
		}
		facts := make([]Fact, 0, len(out.Certificates))
		for i := range out.Certificates {
			c := &out.Certificates[i]
			id, ok := schemas.NormalizeCertificateID(aws.ToString(c.CertificateId))
			if !ok {
				v.metrics.malformed.Inc()
				continue
			}
			seen.add(id)
			f := Fact{ID: id, Asked: asked, Status: status(c.Status), Created: aws.ToTime(c.CreationDate).UTC(), Account: account(aws.ToString(c.CertificateArn))}
			known, ok := reg.Certificate(id)
			if ok && known.Status != f.Status && known.Status != schemas.CertUnspecified {
				// The list does not say since when: DescribeCertificate does.
				v.queue.add(changed, id)
				continue
			}
			if !ok || known.Status != f.Status || known.Created.IsZero() {
				facts = append(facts, f)
			}
		}
		if err := reg.Merge(ctx, facts...); err != nil {
			return err
		}
		state.Listed += len(out.Certificates)
		v.metrics.listed.Set(float64(state.Listed))
		state.Marker = aws.ToString(out.NextMarker)
		if state.Marker == "" {
			return nil
		}
		if pages%savePages == 0 {
			if err := reg.Save(ctx, *state); err != nil {
				return err
			}
		}
		v.queue.refill()
	}
}

func (v *Inventory) listCAs(ctx context.Context, reg Registry) (ids []string, err error) {
	in := &iot.ListCACertificatesInput{PageSize: aws.Int32(pageSize)}
	for {
		var out *iot.ListCACertificatesOutput
		err := v.calls.do(ctx, opListCACertificates, func(ctx context.Context) (err error) {
			out, err = v.opts.Client.ListCACertificates(ctx, in)
			return err
		})
		if err != nil {
			return ids, err
		}
		for i := range out.Certificates {
			id := aws.ToString(out.Certificates[i].CertificateId)
			if err := v.describeCA(ctx, reg, id); err != nil {
				return ids, err
			}
			ids = append(ids, id)
		}
		if aws.ToString(out.NextMarker) == "" {
			return ids, nil
		}
		in.Marker = out.NextMarker
	}
}

func (v *Inventory) describeCA(ctx context.Context, reg Registry, id string) error {
	var out *iot.DescribeCACertificateOutput
	err := v.calls.do(ctx, opDescribeCACertificate, func(ctx context.Context) (err error) {
		out, err = v.opts.Client.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: &id})
		return err
	})
	var gone *types.ResourceNotFoundException
	if errors.As(err, &gone) || err == nil && out.CertificateDescription == nil {
		return nil
	}
	if err != nil {
		return err
	}
	d := out.CertificateDescription
	parsed, err := certificate.ParsePEM(aws.ToString(d.CertificatePem))
	if err != nil {
		v.metrics.unreadable.Inc()
		v.log.Warn("a CA certificate of AWS IoT cannot be read", zap.String("ca_certificate_id", id), zap.Error(err))
		return nil
	}
	return reg.MergeCA(ctx, CA{ID: id, Status: string(d.Status), PEM: aws.ToString(d.CertificatePem), Certificate: parsed})
}

// listByCA learns which CA registered which certificate, long before each has
// been described.
func (v *Inventory) listByCA(ctx context.Context, reg Registry, cas []string) error {
	for _, ca := range cas {
		in := &iot.ListCertificatesByCAInput{CaCertificateId: &ca, PageSize: aws.Int32(pageSize)}
		for {
			var out *iot.ListCertificatesByCAOutput
			err := v.calls.do(ctx, opListCertificatesByCA, func(ctx context.Context) (err error) {
				out, err = v.opts.Client.ListCertificatesByCA(ctx, in)
				return err
			})
			var gone *types.ResourceNotFoundException
			if errors.As(err, &gone) {
				break
			}
			if err != nil {
				return err
			}
			var facts []Fact
			for i := range out.Certificates {
				id, ok := schemas.NormalizeCertificateID(aws.ToString(out.Certificates[i].CertificateId))
				if !ok {
					continue
				}
				if known, ok := reg.Certificate(id); !ok || known.CAID != ca {
					facts = append(facts, Fact{ID: id, CAID: ca})
				}
			}
			if err := reg.Merge(ctx, facts...); err != nil {
				return err
			}
			if aws.ToString(out.NextMarker) == "" {
				break
			}
			in.Marker = out.NextMarker
		}
	}
	return nil
}

// maxVanished bounds the certificates that are looked for one by one because a
// listing did not have them any more.
const maxVanished = 10_000

// lookForVanished has certificates described that the listing should have had:
// whether they are gone is for DescribeCertificate to say.
func (v *Inventory) lookForVanished(reg Registry, cycle time.Time, seen *seen) {
	ids := reg.Select(maxVanished, func(c *schemas.Certificate) bool {
		listed := !c.Created.IsZero() && c.Created.Before(cycle)
		return listed && c.Status != schemas.CertUnknown && c.Status != schemas.CertUnspecified && !seen.has(c.ID)
	})
	for _, id := range ids {
		v.queue.add(changed, id)
	}
}

// seen is the certificates of a listing, by a hash: 8 bytes each.
type seen struct {
	seed maphash.Seed
	ids  map[uint64]struct{}
}

func newSeen() *seen { return &seen{maphash.MakeSeed(), make(map[uint64]struct{})} }

func (s *seen) add(id string) { s.ids[maphash.String(s.seed, id)] = struct{}{} }

func (s *seen) has(id string) bool {
	_, ok := s.ids[maphash.String(s.seed, id)]
	return ok
}

// status returns the state that the API calls by this name.
func status(s types.CertificateStatus) (out schemas.CertificateStatus) {
	// A name that is not known is taken for none.
	_ = out.UnmarshalText([]byte(s))
	return out
}

// account returns the account of an ARN, "" for none.
func account(arn string) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		return parts[4]
	}
	return ""
}

func isInvalidRequest(err error) bool {
	var invalid *types.InvalidRequestException
	return errors.As(err, &invalid)
}

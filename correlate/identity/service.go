package identity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/enforce"
	"github.com/tocsin-io/tocsin/correlate/identity/inventory"
	"github.com/tocsin-io/tocsin/correlate/identity/revocation"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/registry"
	"github.com/tocsin-io/tocsin/schemas"
)

// Options of a Service. Client, Producer and Logger are needed.
type Options struct {
	Client   *kafka.Client
	Producer *kafka.Producer
	// GroupID is the consumer group. Default "tocsin-registry".
	GroupID string
	// Inventory of AWS IoT, nil without.
	Inventory *inventory.Inventory
	// Account and Region are what the registry's events carry. The inventory tells
	// the account when Account is empty.
	Account, Region string
	// CAs are PEM documents of CAs that AWS IoT does not have, such as
	// intermediates, and CAs of a fleet without AWS.
	CAs []string
	// Sources of revocations, and how often they are asked. Default 15 min.
	Sources        []revocation.Source
	SourceInterval time.Duration
	// PrivateCAKeyID asks AWS Private CA for the key identifier of a CA, by its ARN; nil
	// without. What CloudTrail says of CAs whose certificates it has not seen being
	// issued waits for that. It may be called while Sources are read.
	PrivateCAKeyID func(ctx context.Context, caARN string) (string, error)
	// Enforcer has the broker revoke what a CA has revoked; nil for none.
	Enforcer *enforce.Enforcer
	// ExpiryDays are how many days ahead expiry is told. Default 90, 30, 14, 7, 1.
	ExpiryDays []int
	// AgeDays is the age from which a certificate is told; 0 for none.
	AgeDays int
	// CheckInterval is how often at least the clock is compared with all records.
	// Default 10 min.
	CheckInterval time.Duration
	// ForgetAfter is how long the record of a certificate is kept that is not
	// registered, after it was last seen. Default 90 days.
	ForgetAfter time.Duration
	// MaxCertificates and MaxRevoked bound the records and the revoked serial
	// numbers in memory. Defaults 20 million, 10 million.
	MaxCertificates, MaxRevoked int
	Logger                      *zap.Logger
	Registerer                  prometheus.Registerer
	// Group tunes the membership; topic and ID are set here.
	Group kafka.GroupOptions
}

func (o Options) withDefaults() Options {
	if o.GroupID == "" {
		o.GroupID = "tocsin-registry"
	}
	if o.SourceInterval <= 0 {
		o.SourceInterval = 15 * time.Minute
	}
	if o.ExpiryDays == nil {
		o.ExpiryDays = []int{90, 30, 14, 7, 1}
	}
	o.ExpiryDays = slices.Clone(o.ExpiryDays)
	slices.Sort(o.ExpiryDays)
	slices.Reverse(o.ExpiryDays)
	if o.CheckInterval <= 0 {
		o.CheckInterval = 10 * time.Minute
	}
	if o.ForgetAfter <= 0 {
		o.ForgetAfter = 90 * 24 * time.Hour
	}
	if o.MaxCertificates <= 0 {
		o.MaxCertificates = 20_000_000
	}
	if o.MaxRevoked <= 0 {
		o.MaxRevoked = 10_000_000
	}
	return o
}

// maxCAs bounds the CAs; each is kept with its PEM.
const maxCAs = 10_000

// Service is one instance of the registry: a member of its consumer group, active
// or standing by.
type Service struct {
	opts    Options
	log     *zap.Logger
	metrics *metrics
	detect  detector
	writer  string // names this instance in its records

	// The partition counts of the topics, read when Run starts.
	partitions, eventPartitions int

	mu      sync.Mutex
	certs   *registry.Table // written with mu
	cas     map[string]*authority
	syncs   map[string]schemas.Sync
	revoked *revokedSet
	pending pending
	next    []int64 // by partition: where the follower goes on
	ends    []int64 // by partition: the end of the log, as far as the follower knows
	account string
	term    *term // while this instance is active

	flushing sync.Mutex // one flush at a time, so that newer values follow older ones
	moved    *sync.Cond // with mu: next moved, or the follower ended
	counts   atomic.Pointer[Counts]
	syncNow  chan struct{}
	joined   atomic.Bool
}

// authority is a CA with what its record does not say.
type authority struct {
	schemas.CertificateAuthority
	issuerKeyID string
}

// New returns a Service that has not joined yet.
func New(opts Options) *Service {
	opts = opts.withDefaults()
	var id [8]byte
	// crypto/rand.Read never fails (Go 1.24).
	_, _ = rand.Read(id[:])
	s := &Service{
		opts: opts, log: opts.Logger, metrics: newMetrics(opts.Registerer),
		detect:  detector{expiryDays: opts.ExpiryDays, ageDays: opts.AgeDays},
		writer:  hex.EncodeToString(id[:]),
		certs:   registry.New(registry.Options{}),
		cas:     make(map[string]*authority),
		syncs:   make(map[string]schemas.Sync),
		revoked: newRevokedSet(opts.MaxRevoked),
		pending: newPending(),
		account: opts.Account,
		syncNow: make(chan struct{}, 1),
	}
	s.moved = sync.NewCond(&s.mu)
	s.counts.Store(&Counts{})
	return s
}

// Run follows tocsin.identities and is a member of the group until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	for topic, n := range map[string]*int{schemas.TopicIdentities: &s.partitions, schemas.TopicEvents: &s.eventPartitions} {
		count, err := s.opts.Client.Partitions(ctx, topic)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was not to start any more
		}
		if err != nil {
			return fmt.Errorf("registry: %w", err)
		}
		*n = count
	}
	s.next, s.ends = make([]int64, s.partitions), make([]int64, s.partitions)
	var followers sync.WaitGroup
	for p := range s.partitions {
		followers.Go(func() { s.follow(ctx, p) })
	}
	followers.Go(func() { s.countWhileStandingBy(ctx) })
	defer followers.Wait()
	group := s.opts.Group
	group.GroupID = s.opts.GroupID
	group.Topics = []string{schemas.TopicIdentities}
	group.Registerer = s.opts.Registerer
	group.Logger = s.log
	return kafka.RunGroup(ctx, s.opts.Client, group, s.work)
}

// work is the handler of one assigned partition. Only partition 0 means
// something: the others are what makes every instance a member.
func (s *Service) work(ctx context.Context, a *kafka.Assignment) error {
	s.joined.Store(true)
	if a.Partition != 0 {
		return nil
	}
	return s.lead(ctx, a)
}

// Joined reports whether this instance has been given its part in the group.
func (s *Service) Joined() bool { return s.joined.Load() }

// Active reports whether this instance is the active one.
func (s *Service) Active() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.term != nil
}

// SyncNow has the inventory and the sources of revocations read at once. It
// reports false when this instance is not the active one.
func (s *Service) SyncNow() bool {
	if !s.Active() {
		return false
	}
	if s.opts.Inventory != nil {
		s.opts.Inventory.SyncNow()
	}
	select {
	case s.syncNow <- struct{}{}:
	default:
	}
	return true
}

// complete reports whether an ID that has no record is unknown. mu is held.
func (s *Service) complete() bool {
	for _, sync := range s.syncs {
		if !sync.FirstComplete.IsZero() {
			return true
		}
	}
	return false
}

// syncState decodes the state of a source. mu must not be held.
func (s *Service) syncState(source string, state any) error {
	s.mu.Lock()
	sync, ok := s.syncs[source]
	s.mu.Unlock()
	if !ok || len(sync.State) == 0 {
		return nil
	}
	if err := json.Unmarshal(sync.State, state); err != nil {
		return fmt.Errorf("record %s%s of %s: %w", schemas.KeySync, source, schemas.TopicIdentities, err)
	}
	return nil
}

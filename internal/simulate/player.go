package simulate

import (
	"context"
	"errors"
	"math"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

// PlayOptions say how a simulation is sent.
type PlayOptions struct {
	Target Target
	Logs   LogOptions
	// Speed is how many seconds of event time pass in a second; 1 plays live, 0 as fast as it goes.
	Speed float64
	// Rate, when set, takes the place of Speed: that many events are sent in a second, whatever
	// their times.
	Rate float64
	// Connections sends that many requests at once. Default 4.
	Connections int
	// RequestBytes is how much a Firehose request holds. Default 512 KiB.
	RequestBytes int
	// Repeat is the share of requests that Firehose sends a second time, because it did not see
	// the answer. Default 0.002; negative for none.
	Repeat float64
	Log    *zap.Logger
	// Progress, when set, is called now and then with the event time reached.
	Progress func(event time.Time)
}

func (o PlayOptions) withDefaults() PlayOptions {
	if o.Connections == 0 {
		o.Connections = 4
	}
	if o.RequestBytes == 0 {
		o.RequestBytes = 512 << 10
	}
	if o.Repeat == 0 {
		o.Repeat = 0.002
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Target.RetryFor == 0 {
		o.Target.RetryFor = 5 * time.Minute
	}
	if o.Target.Client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 2 * o.Connections
		transport.DisableCompression = true
		o.Target.Client = &http.Client{
			Transport: transport,
			Timeout:   3 * time.Minute, // Firehose's
			// Firehose does not follow redirects.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return o
}

// maxRecordsPerRequest is Firehose's limit.
const maxRecordsPerRequest = 10_000

// Play sends a simulation to its target until it ends or ctx does, and returns
// when everything that was sent is acknowledged or given up. The ledger, which
// may be watched meanwhile, says what became of it.
func Play(ctx context.Context, s *Simulator, opts PlayOptions, ledger *Ledger) error {
	return send(ctx, s.opts.Seed, s.begins, opts, ledger, func(p *player) error { return p.simulate(s) })
}

// Prepared is a simulation whose payloads are encoded before they are sent:
// sending them takes next to nothing from whatever is being measured on the same
// machine. It is not safe for concurrent use.
type Prepared struct {
	sim      *Simulator
	sub      *Subscription
	rng      rng // of request IDs: another Play must not repeat them
	payloads []Payload
	events   int
}

// Prepare plays s into memory, about 120 bytes for each event.
func Prepare(s *Simulator, opts LogOptions) (*Prepared, error) {
	p, err := NewPrepared(s, opts)
	if err != nil {
		return nil, err
	}
	return p, p.Fill(math.MaxInt)
}

// NewPrepared returns a Prepared that holds nothing yet.
func NewPrepared(s *Simulator, opts LogOptions) (*Prepared, error) {
	p := &Prepared{sim: s, rng: newRNG(s.opts.Seed, 5)}
	var err error
	p.sub, err = NewSubscription(s.opts.Seed, opts, func(one Payload) error {
		p.payloads = append(p.payloads, one)
		p.events += one.Events
		return nil
	})
	return p, err
}

// Fill encodes what comes next of the simulation until there are at least that
// many events, or until its end.
func (p *Prepared) Fill(events int) error {
	for p.events < events {
		records := p.sim.Step()
		if records == nil {
			break
		}
		for i := range records {
			if err := p.sub.Add(&records[i]); err != nil {
				return err
			}
		}
	}
	return p.sub.Flush()
}

// Events returns how many there are to be sent, repeated ones included.
func (p *Prepared) Events() int { return p.events }

// Play sends what was prepared, as the function of that name sends a
// simulation. After another Fill it may be called again.
func (p *Prepared) Play(ctx context.Context, opts PlayOptions, ledger *Ledger) error {
	payloads := p.payloads
	p.payloads, p.events = nil, 0
	return send(ctx, p.sim.opts.Seed, p.sim.begins, opts, ledger, func(pl *player) error {
		pl.rng = p.rng
		defer func() { p.rng = pl.rng }()
		for i := range payloads {
			one := payloads[i]
			payloads[i] = Payload{} // it need not stay in memory
			if err := pl.pace(one.LastTime, nil); err != nil {
				return err
			}
			if err := pl.payload(one); err != nil {
				return err
			}
			pl.added += int64(one.Events)
		}
		return pl.flush()
	})
}

func send(ctx context.Context, seed uint64, begins int64, opts PlayOptions, ledger *Ledger, play func(*player) error) error {
	opts = opts.withDefaults()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &player{
		opts: opts, ledger: ledger, rng: newRNG(seed, 5), ctx: ctx, cancel: cancel,
		requests: make(chan outgoing, opts.Connections),
		began:    time.Now(), first: begins,
	}
	var wg sync.WaitGroup
	for range opts.Connections {
		wg.Go(p.sender)
	}
	err := play(p)
	close(p.requests)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

type outgoing struct {
	r        *request
	repeated bool
}

type player struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	opts     PlayOptions
	ledger   *Ledger
	rng      rng
	requests chan outgoing
	began    time.Time
	first    int64 // event time at which it began
	added    int64 // events so far
	steps    uint64

	pending [2][]Payload // by channel: logs, lifecycle
	size    [2]int
	lines   []byte // lifecycle events, one per line
	life    Payload
}

func (p *player) simulate(s *Simulator) error {
	sub, err := NewSubscription(s.opts.Seed, p.opts.Logs, p.payload)
	if err != nil {
		return err
	}
	delay := p.opts.Logs.withDefaults().MaxDelay
	for records := s.Step(); records != nil; records = s.Step() {
		now := records[0].Time
		if err := p.pace(now, func() error { return sub.flushOlder(now - delay) }); err != nil {
			return err
		}
		for i := range records {
			if err := sub.Add(&records[i]); err != nil {
				return err
			}
		}
		p.added += int64(len(records))
	}
	return errors.Join(sub.Flush(), p.flush())
}

// pace waits until it is time for event time now. Before it waits it sends what
// is there, which would be late otherwise; flush, when set, gets at what is not
// a payload yet.
func (p *player) pace(now int64, flush func() error) error {
	p.steps++
	if p.steps%1024 == 0 && p.opts.Progress != nil {
		p.opts.Progress(time.UnixMilli(now))
	}
	var elapsed float64 // seconds after which it is due
	switch {
	case p.opts.Rate > 0:
		elapsed = float64(p.added) / p.opts.Rate
	case p.opts.Speed > 0:
		elapsed = float64(now-p.first) / 1000 / p.opts.Speed
	default:
		return p.ctx.Err()
	}
	due := p.began.Add(time.Duration(elapsed * float64(time.Second)))
	if time.Until(due) < 2*time.Millisecond {
		return p.ctx.Err()
	}
	if flush != nil {
		if err := flush(); err != nil {
			return err
		}
	}
	if err := p.flush(); err != nil {
		return err
	}
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-timer.C:
		return nil
	}
}

// payload collects payloads into requests.
func (p *player) payload(one Payload) error {
	switch one.Channel {
	case ChannelEvents:
		if p.opts.Target.EventsURL == "" {
			return nil
		}
		return p.post(p.opts.Target.eventRequest(p.requestID(), one))
	case ChannelLifecycle:
		p.lifecycle(one)
		if len(p.lines) < 64<<10 {
			return nil
		}
		one = p.takeLifecycle()
	}
	c := one.Channel
	p.pending[c] = append(p.pending[c], one)
	p.size[c] += len(one.Data)
	if p.size[c] >= p.opts.RequestBytes || len(p.pending[c]) == maxRecordsPerRequest {
		return p.flushChannel(c)
	}
	return nil
}

// lifecycle adds an event to the record that the topic rule's Firehose action
// builds, with a newline between events.
func (p *player) lifecycle(one Payload) {
	if len(p.lines) == 0 {
		p.life = Payload{Channel: ChannelLifecycle, FirstTime: one.FirstTime}
	}
	p.lines = append(append(p.lines, one.Data...), '\n')
	p.life.Events++
	p.life.LastTime = max(p.life.LastTime, one.LastTime)
}

func (p *player) takeLifecycle() Payload {
	one := p.life
	one.Data = p.lines
	p.life, p.lines = Payload{}, nil
	return one
}

func (p *player) flush() error {
	if len(p.lines) > 0 {
		p.pending[ChannelLifecycle] = append(p.pending[ChannelLifecycle], p.takeLifecycle())
	}
	return errors.Join(p.flushChannel(ChannelLogs), p.flushChannel(ChannelLifecycle))
}

func (p *player) flushChannel(c Channel) error {
	if len(p.pending[c]) == 0 {
		return nil
	}
	payloads := p.pending[c]
	p.pending[c], p.size[c] = nil, 0
	r, err := p.opts.Target.firehoseRequest(p.requestID(), time.Now(), payloads)
	if err != nil {
		return err
	}
	return p.post(r)
}

func (p *player) requestID() string { return string(p.rng.uuid(nil)) }

func (p *player) post(r *request) error {
	out := []outgoing{{r, false}}
	if p.opts.Repeat > 0 && r.stream != "" && p.rng.chance(p.opts.Repeat) {
		out = append(out, outgoing{r, true})
	}
	for _, o := range out {
		select {
		case p.requests <- o:
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
	return nil
}

func (p *player) sender() {
	for o := range p.requests {
		sent := time.Now()
		err := p.opts.Target.deliver(p.ctx, o.r, func(err error) {
			p.ledger.retried()
			p.opts.Log.Warn("request will be repeated", zap.String("request", o.r.id), zap.Error(err))
		})
		p.ledger.sent(o.r, sent)
		p.ledger.done(o.r, o.repeated, err)
		switch {
		case err == nil || p.ctx.Err() != nil:
		case errors.Is(err, errRefused):
			p.cancel(err) // the next one would be refused as well
		default:
			// Firehose goes on, too, after putting the records into its error bucket.
			p.opts.Log.Error("records are lost", zap.String("request", o.r.id), zap.Error(err))
		}
	}
}

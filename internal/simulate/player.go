package simulate

import (
	"context"
	"errors"
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
	opts = opts.withDefaults()
	p := &player{
		opts: opts, ledger: ledger, rng: newRNG(s.opts.Seed, 5),
		requests: make(chan outgoing, opts.Connections),
		began:    time.Now(), first: s.begins,
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.ctx, p.cancel = ctx, cancel
	var wg sync.WaitGroup
	for range opts.Connections {
		wg.Go(p.sender)
	}
	err := p.play(s)
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

	pending [2][]Payload // by channel: logs, lifecycle
	size    [2]int
	lines   []byte // lifecycle events, one per line
	life    Payload
}

func (p *player) play(s *Simulator) error {
	sub, err := NewSubscription(s.opts.Seed, p.opts.Logs, p.payload)
	if err != nil {
		return err
	}
	lastProgress := time.Now()
	for records := s.Step(); records != nil; records = s.Step() {
		for i := range records {
			if err := sub.Add(&records[i]); err != nil {
				return err
			}
		}
		now := records[0].Time
		if err := p.pace(sub, now); err != nil {
			return err
		}
		if p.opts.Progress != nil && time.Since(lastProgress) > 100*time.Millisecond {
			lastProgress = time.Now()
			p.opts.Progress(time.UnixMilli(now))
		}
	}
	return errors.Join(sub.Flush(), p.flush())
}

// pace waits until it is time for event time now. Before it waits for long it
// sends what is there: a request that is not full is late otherwise.
func (p *player) pace(sub *Subscription, now int64) error {
	if p.opts.Speed == 0 {
		return p.ctx.Err()
	}
	due := p.began.Add(time.Duration(float64(now-p.first) / p.opts.Speed * float64(time.Millisecond)))
	wait := time.Until(due)
	if wait < 2*time.Millisecond {
		return p.ctx.Err()
	}
	if err := sub.flushOlder(now - p.opts.Logs.withDefaults().MaxDelay); err != nil {
		return err
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

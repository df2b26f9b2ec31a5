// Package decode turns raw payloads of any known shape into events. It looks
// at the bytes, not at where they came from: gzip, CloudWatch Logs
// subscription payloads, EventBridge and SNS envelopes, Lambda events,
// CloudTrail files, JSON lines and plain text may arrive by every source.
//
// A payload is taken apart in levels: gunzip and unbase64 (inflate.go), a document
// of JSON values and lines (document.go), envelopes (envelope.go, cloudwatch.go),
// and at last a record, which is scanned once into the known members (record.go),
// told by them (format.go) and decoded by its format's file. A new format needs its
// member names in record.go, a case in format.go and such a file.
//
// The formats are described in AWS's documentation: "Log group-level
// subscription filters", "CloudWatch AWS IoT Core log entries", "Lifecycle
// events", "Amazon GuardDuty findings EventBridge event", "CloudTrail record
// contents", "AWS IoT Device Defender".
package decode

import (
	"bytes"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/internal/registry"
	"github.com/tocsin-io/tocsin/schemas"
)

// The defaults of Options.
const (
	DefaultMaxInflated = 64 << 20
	DefaultMaxMessage  = 1 << 20
	DefaultMaxFuture   = 5 * time.Minute
)

// MaxText bounds, in bytes, each text field of an event except the message;
// longer values are cut and counted. AWS's own limits are 128 for a client ID
// and a thing name, 64 for a certificate ID.
const MaxText = 512

// Binder says which device a certificate belongs to.
type Binder interface {
	// DeviceOf returns the device key that the certificate (64 lower-case hex
	// digits) is bound to, nil when it is not known. The result must not change
	// afterwards. It may be called from many goroutines at once.
	DeviceOf(certificateID []byte) []byte
}

// Options of a Decoder. The zero value is usable.
type Options struct {
	// MaxInflated bounds the bytes that one payload may inflate to, over all its
	// layers of gzip and base64. Default DefaultMaxInflated.
	MaxInflated int64
	// MaxMessage bounds the message of one event. Default DefaultMaxMessage, what
	// CloudWatch Logs allows.
	MaxMessage int
	// MaxFuture is how far ahead of its arrival an event's time may be before it
	// is not believed. Default DefaultMaxFuture.
	MaxFuture time.Duration
	// Now is the clock used where Hints.Received is zero. Default time.Now.
	Now func() time.Time
	// Binder is asked for the device of events that name only a certificate,
	// before Bindings. It may be nil.
	Binder Binder
	// Bindings remembers which client used which certificate, as the decoded
	// events show it. Share one between the decoders of a process. Nil: none is
	// remembered.
	Bindings *identity.Bindings
	// Certificates stamp events with what is known of their certificate. Nil: events
	// say nothing of it.
	Certificates *registry.Table
	// Account and Region stand in where neither the record nor Hints name them.
	Account, Region string
}

// Hints is what the source knows of a payload.
type Hints struct {
	// Account and Region of the input (from a stream's ARN, say); "" if not known.
	Account, Region string
	// Received is when the payload arrived: the events' ingest time, and the event
	// time of records that have none of their own.
	Received time.Time
}

// Reason says in one word why something could not be decoded. It is a metric
// label: the set is fixed.
type Reason string

// The reasons.
const (
	ReasonGzip            Reason = "gzip"              // corrupt or truncated gzip
	ReasonTooLarge        Reason = "too_large"         // inflates to more than MaxInflated
	ReasonMessageTooLarge Reason = "message_too_large" // one message is longer than MaxMessage
	ReasonNotJSON         Reason = "not_json"          // begins like JSON and is not, or is cut off
	ReasonShape           Reason = "shape"             // a known envelope whose contents have the wrong types
	ReasonBase64          Reason = "base64"            // a Lambda event whose data is not base64
	ReasonTooDeep         Reason = "too_deep"          // envelopes in envelopes, or JSON nested too deep
	ReasonBinary          Reason = "binary"            // neither gzip nor JSON nor text
)

// Reasons lists every Reason, so that metrics can start at zero.
var Reasons = [...]Reason{
	ReasonGzip, ReasonTooLarge, ReasonMessageTooLarge, ReasonNotJSON,
	ReasonShape, ReasonBase64, ReasonTooDeep, ReasonBinary,
}

// Rejection is a part of a payload that could not be decoded.
type Rejection struct {
	Reason Reason
	// Err says what was wrong and where.
	Err error
	// Raw is the part. It is valid only during the call. For truncated gzip it is
	// the payload as it arrived.
	Raw []byte
	// Offset of the part in the JSON or text that it was found in, 0 if it is all of
	// it or that is not known.
	Offset int
}

// Stats counts what one payload held.
type Stats struct {
	Events   int
	Rejected int
	Control  int   // CloudWatch control messages: probes, without events
	Empty    int   // payloads of white space, envelopes without records
	Inflated int64 // bytes that came out of gzip and base64, all layers together
	// TimeFallbacks counts events whose own time was missing or not believable and
	// which took the time of their arrival.
	TimeFallbacks int
	// CutTexts counts texts cut to MaxText bytes.
	CutTexts int
}

// maxLevels bounds how many envelopes and layers of compression may be around a
// record. Lambda, base64, gzip, gzip, CloudWatch, EventBridge, record is seven.
const maxLevels = 10

// Decoder decodes payloads and reuses its memory between them. It is not safe
// for concurrent use: give each goroutine its own.
type Decoder struct {
	opts Options

	// Of the payload being decoded.
	emit     func(*schemas.Event)
	onReject func(Rejection)
	stats    Stats
	received int64 // Unix milliseconds
	latest   int64 // the last event time that is believed
	budget   int64 // what may still be inflated

	// Of the event being built.
	ev    schemas.Event
	arena []byte // texts of ev that are not in the input as they are
	flat  flat   // message of ev, where it is not in the input as it is

	gzip   *gzip.Reader
	src    bytes.Reader
	levels [maxLevels]level
}

// level is the memory for one envelope or record around others, which use the
// levels above it.
type level struct {
	scan    jsonscan.Scanner
	rec     record
	buf     []byte // what was inflated
	message []byte // the text of a string that is decoded in turn
	index   jsonscan.Index
	names   []byte // texts of the origin
	broken  int    // values of the document that were
}

// origin is what is known of a record from what is around it. Its bytes live as
// long as the level it was made on.
type origin struct {
	account, region []byte
	time            int64 // Unix milliseconds, 0 if not known
	typ             []byte
	log             bool // the record is one line of a log, not a document
	iotLog          bool // of the log group that IoT Core writes to
	// id identifies the record at its origin: the parts to hash, as many as are not
	// nil. seq tells the records of one id apart.
	id  [4][]byte
	seq int
}

// New returns a decoder.
func New(opts Options) *Decoder {
	if opts.MaxInflated <= 0 {
		opts.MaxInflated = DefaultMaxInflated
	}
	if opts.MaxMessage <= 0 {
		opts.MaxMessage = DefaultMaxMessage
	}
	if opts.MaxFuture <= 0 {
		opts.MaxFuture = DefaultMaxFuture
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Decoder{opts: opts}
}

// Decode decodes one payload. It calls emit for every event and reject for
// every part that it cannot decode; whatever is there becomes one or the other,
// but for CloudWatch's control messages and envelopes without records, which are
// counted. The event, its memory and the rejection are valid only during the call; neither
// function may call the decoder. The payload is not changed.
//
// Of a JSON document that breaks off in the middle of its log events, those
// before the break are emitted and the rest is rejected. A gzip stream that
// breaks off is rejected whole.
func (d *Decoder) Decode(payload []byte, hints Hints, emit func(*schemas.Event), reject func(Rejection)) Stats {
	received := hints.Received
	if received.IsZero() {
		received = d.opts.Now()
	}
	d.emit, d.onReject = emit, reject
	d.stats = Stats{}
	d.received = received.UnixMilli()
	d.latest = d.received + d.opts.MaxFuture.Milliseconds()
	d.budget = d.opts.MaxInflated

	account, region := hints.Account, hints.Region
	if account == "" {
		account = d.opts.Account
	}
	if region == "" {
		region = d.opts.Region
	}
	l := &d.levels[0]
	l.names = append(append(l.names[:0], account...), region...)
	d.payload(payload, origin{account: l.names[:len(account)], region: l.names[len(account):]}, 1)

	d.release()
	d.emit, d.onReject = nil, nil
	return d.stats
}

func (d *Decoder) reject(r Rejection) {
	d.stats.Rejected++
	d.onReject(r)
}

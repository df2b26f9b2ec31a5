package simulate

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/klauspost/compress/gzip"
)

// LogOptions say how CloudWatch Logs hands on a log group.
type LogOptions struct {
	// Streams of the log group; lines of one device are spread over all of them. Default 8.
	Streams int
	// MaxEvents of a subscription payload. Default 1,000.
	MaxEvents int
	// MaxDelay is how long a stream collects lines, in milliseconds of event time. Default 2,000.
	MaxDelay int64
	// Disorder is the share of lines that change places with one up to 20 lines away, Duplicates
	// the share that is delivered again later. Defaults 0.05 and 0.0005; negative for none.
	Disorder, Duplicates float64
	// GzipLevel; AWS uses 6, which costs three times as much as the default of 1.
	GzipLevel int
}

func (o LogOptions) withDefaults() LogOptions {
	if o.Streams == 0 {
		o.Streams = 8
	}
	if o.MaxEvents == 0 {
		o.MaxEvents = 1000
	}
	if o.MaxDelay == 0 {
		o.MaxDelay = 2000
	}
	if o.Disorder == 0 {
		o.Disorder = 0.05
	}
	if o.Duplicates == 0 {
		o.Duplicates = 0.0005
	}
	if o.GzipLevel == 0 {
		o.GzipLevel = gzip.BestSpeed
	}
	return o
}

// Payload is what one delivery holds.
type Payload struct {
	Channel   Channel
	Data      []byte // a gzipped subscription payload, lifecycle events in lines, or an EventBridge event
	Events    int
	Repeated  int   // of Events, those that an earlier payload held as well
	FirstTime int64 // event times, Unix milliseconds
	LastTime  int64
}

// Subscription turns records into payloads as a CloudWatch Logs subscription
// filter does: by log stream, in batches, mildly out of order, with a few lines
// twice. It is deterministic, too, and not safe for concurrent use.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html
type Subscription struct {
	opts    LogOptions
	rng     rng
	streams []logStream
	seq     uint64 // of the next line
	oldest  int64  // no stream holds a line before it
	json    []byte
	gz      *gzip.Writer
	again   []logLine // lines to be delivered a second time
	emit    func(Payload) error
}

type logStream struct {
	name  string
	lines []logLine
	text  []byte // of all lines
}

type logLine struct {
	seq        uint64
	time       int64
	start, end int    // in text
	copy       []byte // of a repeated line
}

// NewSubscription returns a subscription that hands its payloads to emit. A
// payload's Data belongs to the receiver.
func NewSubscription(seed uint64, opts LogOptions, emit func(Payload) error) (*Subscription, error) {
	opts = opts.withDefaults()
	gz, err := gzip.NewWriterLevel(nil, opts.GzipLevel)
	if err != nil {
		return nil, err
	}
	sub := &Subscription{opts: opts, rng: newRNG(seed, 4), gz: gz, emit: emit, streams: make([]logStream, opts.Streams)}
	for i := range sub.streams {
		sub.streams[i].name = fmt.Sprintf("%s_%s_%d", Account, Region, i)
	}
	return sub, nil
}

// Add takes a record of any channel; it copies what it keeps.
func (s *Subscription) Add(r *Record) error {
	if r.Channel != ChannelLogs {
		return s.emit(Payload{
			Channel: r.Channel, Data: append([]byte(nil), r.Data...), Events: 1, FirstTime: r.Time, LastTime: r.Time,
		})
	}
	if err := s.flushOlder(r.Time - s.opts.MaxDelay); err != nil {
		return err
	}
	st := &s.streams[s.rng.n(len(s.streams))]
	start := len(st.text)
	st.text = append(st.text, r.Data...)
	st.lines = append(st.lines, logLine{seq: s.seq, time: r.Time, start: start, end: len(st.text)})
	s.seq++
	if s.opts.Duplicates > 0 && s.rng.chance(s.opts.Duplicates) {
		s.again = append(s.again, logLine{seq: s.seq - 1, time: r.Time, copy: append([]byte(nil), r.Data...)})
	}
	if len(st.lines) >= s.opts.MaxEvents {
		return s.flush(st)
	}
	return nil
}

// flushOlder delivers the streams that hold a line from before the limit.
func (s *Subscription) flushOlder(limit int64) error {
	if limit <= s.oldest {
		return nil
	}
	s.oldest = 1<<63 - 1
	for i := range s.streams {
		st := &s.streams[i]
		if len(st.lines) > 0 && st.lines[0].time <= limit {
			if err := s.flush(st); err != nil {
				return err
			}
		}
		if len(st.lines) > 0 {
			s.oldest = min(s.oldest, st.lines[0].time)
		}
	}
	if s.oldest == 1<<63-1 {
		s.oldest = limit
	}
	return nil
}

// Flush delivers what is left.
func (s *Subscription) Flush() error {
	for i := range s.streams {
		if err := s.flush(&s.streams[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Subscription) flush(st *logStream) error {
	if len(st.lines) == 0 {
		return nil
	}
	repeated := len(s.again)
	lines := append(st.lines, s.again...)
	s.again = s.again[:0]
	if s.opts.Disorder > 0 {
		for i := range lines {
			if s.rng.chance(s.opts.Disorder) {
				j := min(i+1+s.rng.n(20), len(lines)-1)
				lines[i], lines[j] = lines[j], lines[i]
			}
		}
	}
	b := append(s.json[:0], `{"messageType":"DATA_MESSAGE","owner":"`+Account+`","logGroup":"`+logGroup+`","logStream":"`...)
	b = append(b, st.name...)
	b = append(b, `","subscriptionFilters":["tocsin"],"logEvents":[`...)
	p := Payload{Channel: ChannelLogs, Events: len(lines), Repeated: repeated, FirstTime: lines[0].time, LastTime: lines[0].time}
	for i := range lines {
		l := &lines[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"id":"`...)
		b = appendEventID(b, l.time, l.seq)
		b = append(b, `","timestamp":`...)
		b = strconv.AppendInt(b, l.time, 10)
		b = append(b, `,"message":"`...)
		text := l.copy
		if text == nil {
			text = st.text[l.start:l.end]
		}
		b = appendEscaped(b, text)
		b = append(b, '"', '}')
		p.FirstTime, p.LastTime = min(p.FirstTime, l.time), max(p.LastTime, l.time)
	}
	b = append(b, ']', '}')
	s.json = b
	st.lines, st.text = lines[:0], st.text[:0]
	var out bytes.Buffer
	out.Grow(len(b) / 5)
	s.gz.Reset(&out)
	if _, err := s.gz.Write(b); err != nil {
		return err
	}
	if err := s.gz.Close(); err != nil {
		return err
	}
	p.Data = out.Bytes()
	return s.emit(p)
}

// appendEventID appends the ID that CloudWatch gives the line with this number:
// 56 decimal digits that begin with the time.
func appendEventID(b []byte, time int64, seq uint64) []byte {
	b = append(b, '3')
	b = appendPadded(b, uint64(time), 15)
	b = appendPadded(b, seq*0x9e3779b97f4a7c15, 20)
	return appendPadded(b, seq, 20)
}

func appendPadded(b []byte, v uint64, width int) []byte {
	var digits [20]byte
	for i := width - 1; i >= 0; i-- {
		digits[i] = byte('0' + v%10)
		v /= 10
	}
	return append(b, digits[:width]...)
}

// appendEscaped appends text as the inside of a JSON string. The lines are
// ASCII without control characters, so only two characters need it.
func appendEscaped(b, text []byte) []byte {
	for {
		i := bytes.IndexByte(text, '"')
		if i < 0 {
			return append(b, text...)
		}
		b = append(b, text[:i]...)
		b = append(b, '\\', '"')
		text = text[i+1:]
	}
}

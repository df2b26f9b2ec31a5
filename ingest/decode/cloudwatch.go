package decode

import (
	"fmt"

	"github.com/tocsin-io/tocsin/internal/jsonscan"
)

// iotLogGroup is where IoT Core's V2 logging writes, unless told otherwise.
const iotLogGroup = "AWSIotLogsV2"

// cloudWatch decodes a subscription payload whose log events came before the
// rest, or are not an array.
func (d *Decoder) cloudWatch(rec *record, o origin, depth int) {
	events := rec.get(fLogEvents)
	if events.Kind != jsonscan.Array {
		d.reject(Rejection{Reason: ReasonShape, Err: fmt.Errorf("CloudWatch payload: logEvents is a %v, want an array", events.Kind), Raw: rec.raw})
		return
	}
	s := &d.levels[depth].scan
	saved := *s
	s.Reset(events.Raw)
	d.logEvents(s, events.Raw, rec, o, depth)
	*s = saved
}

// logEvents decodes the array of log events that s, of data, is at. rec has the
// other members of the payload. It returns -1, or the offset of the log event in
// which s found an error.
//
// The format: CloudWatch Logs user guide, "Log group-level subscription
// filters"; extractedFields appear when the filter emits system fields.
func (d *Decoder) logEvents(s *jsonscan.Scanner, data []byte, rec *record, o origin, depth int) (bad int) {
	if rec.is(fMessageType, "CONTROL_MESSAGE") {
		at := s.Pos()
		s.Value()
		if s.Failed() {
			return at
		}
		d.stats.Control++
		return -1
	}
	l := &d.levels[depth]
	l.names = l.names[:0]
	owner := d.text(rec.get(fOwner), &l.names)
	group := d.text(rec.get(fLogGroup), &l.names)
	if len(owner) > 0 {
		o.account = owner
	}
	o.log = true
	o.iotLog = string(group) == iotLogGroup
	o.id = [4][]byte{idCloudWatch, owner, group, nil}
	o.seq = 0
	kept := len(l.names)

	n := 0
	s.Enter()
	for s.Element() {
		kind := s.Kind() // and past the white space
		start := s.Pos()
		n++
		if kind != jsonscan.Object {
			v := s.Value()
			if s.Failed() {
				return start
			}
			d.rejectLogEvent(v.Raw, start, "is a %v, want an object", kind)
			continue
		}
		l.names = l.names[:kept]
		var id, timestamp, extracted jsonscan.Value
		var message []byte
		var index *jsonscan.Index
		has := false
		s.Enter()
		for key, ok := s.Member(); ok; key, ok = s.Member() {
			switch string(key.Raw) {
			case "message":
				has, index = true, nil
				if l.message, ok = s.AppendIndexed(l.message, &l.index); ok {
					message, index = l.message, &l.index
				} else if s.Kind() != jsonscan.Invalid {
					// Not a string: some writer has spared itself the quoting.
					message = s.Value().Raw
				}
			case "id":
				id = s.Value()
			case "timestamp":
				timestamp = s.Value()
			case "extractedFields":
				extracted = s.Value()
			default:
				s.Value()
			}
		}
		if s.Failed() {
			return start
		}
		if !has {
			d.rejectLogEvent(data[start:s.Pos()], start, "has no message%s", "")
			continue
		}
		e := o
		if e.id[3] = d.text(id, &l.names); len(e.id[3]) == 0 {
			e.id = [4][]byte{}
		}
		if ms, ok := ParseTime(timestamp); ok {
			e.time = ms
		}
		if extracted.Kind == jsonscan.Object {
			// With centralised logging the owner is the account that collects; these are
			// where the log was written.
			if v, ok := jsonscan.Lookup(extracted.Raw, "@aws.account"); ok {
				e.account = d.text(v, &l.names)
			}
			if v, ok := jsonscan.Lookup(extracted.Raw, "@aws.region"); ok {
				e.region = d.text(v, &l.names)
			}
		}
		d.message(message, index, e, depth+1)
	}
	if s.Failed() {
		return s.Pos()
	}
	if n == 0 {
		d.stats.Empty++
	}
	return -1
}

func (d *Decoder) rejectLogEvent(raw []byte, at int, format string, arg any) {
	d.reject(Rejection{
		Reason: ReasonShape,
		Err:    fmt.Errorf("CloudWatch payload: log event at byte %d "+format, at, arg),
		Raw:    raw,
		Offset: at,
	})
}

// message decodes one line of a log: one JSON object, or text. The index is of
// raw, or nil.
func (d *Decoder) message(raw []byte, index *jsonscan.Index, o origin, depth int) {
	if depth < maxLevels && len(raw) > 0 && (raw[0] == '{' || isSpace(raw[0])) {
		l := &d.levels[depth]
		s := &l.scan
		if index != nil {
			s.ResetIndexed(raw, index)
		} else {
			s.Reset(raw)
		}
		if s.Kind() == jsonscan.Object && l.rec.scan(s, raw) && s.End() {
			// With the white space around it, as it was logged.
			l.rec.raw = raw
			d.record(&l.rec, o, depth)
			return
		}
	}
	d.generic(raw, o)
}

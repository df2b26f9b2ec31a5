package decode

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/schemas"
)

// The sources, and the kinds of identity that an origin can have, as bytes. They
// are never written to.
var (
	sourceIoT            = []byte(schemas.SourceIoT)
	sourceLifecycle      = []byte(schemas.SourceLifecycle)
	sourceCloudTrail     = []byte(schemas.SourceCloudTrail)
	sourceGuardDuty      = []byte(schemas.SourceGuardDuty)
	sourceDeviceDefender = []byte(schemas.SourceDeviceDefender)
	sourceGeneric        = []byte(schemas.SourceGeneric)

	idCloudWatch  = []byte("cloudwatch")
	idEventBridge = []byte("eventbridge")
	idSNS         = []byte("sns")
	idMessage     = []byte("message")
)

// begin starts an event of a source, with its message.
func (d *Decoder) begin(source, message []byte) *schemas.Event {
	d.arena = d.arena[:0]
	d.ev = schemas.Event{Source: source, Message: message, IngestTime: d.received}
	return &d.ev
}

// finish completes the event that begin started, and emits it. ms is the time
// that the record itself gives, if it does (timed).
func (d *Decoder) finish(o *origin, ms int64, timed bool) {
	ev := &d.ev
	if len(ev.Message) > d.opts.MaxMessage {
		d.reject(Rejection{
			Reason: ReasonMessageTooLarge,
			Err:    fmt.Errorf("message of %d bytes is longer than %d", len(ev.Message), d.opts.MaxMessage),
			Raw:    ev.Message,
		})
		return
	}
	switch {
	case timed && d.believable(ms):
		ev.Time = ms
	case d.believable(o.time):
		ev.Time = o.time
	default:
		ev.Time = d.received
		d.stats.TimeFallbacks++
	}
	if len(ev.Account) == 0 {
		ev.Account = o.account
	}
	if len(ev.Region) == 0 {
		ev.Region = o.region
	}
	if d.opts.Certificates != nil {
		d.opts.Certificates.Stamp(ev)
	}
	ev.Device = identity.DeviceKey(&d.arena, ev, d.bound(ev))
	if ev.ID == (schemas.EventID{}) {
		ev.ID = o.eventID(ev)
	}
	d.stats.Events++
	d.emit(ev)
}

// believable tells a time at which something can have happened from zero, from
// seconds taken for milliseconds, and from a clock that runs ahead: one event of
// next year would make all others late.
func (d *Decoder) believable(ms int64) bool { return ms >= earliest && ms <= d.latest }

// bound returns the device that the certificate of an event without client and
// thing is bound to.
func (d *Decoder) bound(ev *schemas.Event) []byte {
	if len(ev.ClientID) > 0 || len(ev.ThingName) > 0 || len(ev.CertificateID) == 0 {
		return nil
	}
	if d.opts.Binder != nil {
		if device := d.opts.Binder.DeviceOf(ev.CertificateID); len(device) > 0 {
			return device
		}
	}
	if d.opts.Bindings != nil {
		return d.opts.Bindings.DeviceOf(ev.CertificateID)
	}
	return nil
}

// learn remembers that the event's client used the event's certificate. rebind:
// it connected with it, which is more than to be seen using it.
func (d *Decoder) learn(rebind bool) {
	if d.opts.Bindings != nil {
		d.opts.Bindings.Learn(d.ev.CertificateID, d.ev.ClientID, rebind)
	}
}

// eventID is the ID of an event whose record has no identity of its own: that of
// the innermost envelope that has one, else a hash of the record. Two equal lines
// without any envelope are one event.
func (o *origin) eventID(ev *schemas.Event) schemas.EventID {
	if o.id[0] == nil {
		sum := schemas.NewEventID(ev.Message)
		return schemas.NewEventID(idMessage, ev.Source, sum[:])
	}
	if o.seq == 0 {
		return schemas.NewEventID(o.id[0], o.id[1], o.id[2], o.id[3])
	}
	var seq [8]byte
	binary.BigEndian.PutUint64(seq[:], uint64(o.seq))
	return schemas.NewEventID(o.id[0], o.id[1], o.id[2], o.id[3], seq[:])
}

// text returns a string or number as text for an event: valid UTF-8, at most
// MaxText bytes; nil for values of any other kind and for AWS's "N/A". What is
// not in the input as it is, is appended to *arena.
func (d *Decoder) text(v jsonscan.Value, arena *[]byte) []byte {
	if v.Kind != jsonscan.String && v.Kind != jsonscan.Number {
		return nil
	}
	b := v.Raw
	if v.Escaped || !utf8.Valid(b) {
		start := len(*arena)
		// An escape of twelve bytes becomes four, no other less of more: these are
		// enough to tell that there is too much.
		b = b[:min(len(b), 8*MaxText)]
		if v.Escaped {
			*arena = jsonscan.Unescape(*arena, b)
		} else {
			*arena = jsonscan.AppendValid(*arena, b)
		}
		b = (*arena)[start:len(*arena):len(*arena)]
	}
	if len(b) > MaxText {
		d.stats.CutTexts++
		n := MaxText
		for !utf8.RuneStart(b[n]) {
			n--
		}
		b = b[:n]
	}
	if len(b) == 0 || string(b) == "N/A" {
		return nil
	}
	return b
}

// field returns the text of a field of the record for the current event.
func (d *Decoder) field(rec *record, f field) []byte {
	if !rec.has(f) {
		return nil
	}
	return d.text(rec.values[f], &d.arena)
}

// lookup returns the text of what path leads to from an object.
func (d *Decoder) lookup(v jsonscan.Value, path ...string) []byte {
	if v.Kind != jsonscan.Object {
		return nil
	}
	found, _ := jsonscan.Lookup(v.Raw, path...)
	return d.text(found, &d.arena)
}

// ip returns s if it is an IP address.
func ip(s []byte) []byte {
	if !identity.IsIP(s) {
		return nil
	}
	return s
}

// generic emits an event of which nothing is known but the message.
func (d *Decoder) generic(message []byte, o origin) {
	ev := d.begin(sourceGeneric, message)
	ev.Type = o.typ
	d.finish(&o, 0, false)
}

// genericRecord emits a JSON object of no known format. Its time is taken from
// where most logs have theirs.
func (d *Decoder) genericRecord(rec *record, o origin) {
	ev := d.begin(sourceGeneric, rec.raw)
	ev.Type = o.typ
	for _, f := range [...]field{fTimestamp, fTime, fEventTime, fSNSTimestamp} {
		if ms, ok := ParseTime(rec.get(f)); ok {
			d.finish(&o, ms, true)
			return
		}
	}
	d.finish(&o, 0, false)
}

package schemas

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// The field numbers of event.proto.
const (
	fieldBatchEvents protowire.Number = 1
	fieldBatchLanes  protowire.Number = 2

	fieldID            protowire.Number = 1
	fieldTime          protowire.Number = 2
	fieldIngestTime    protowire.Number = 3
	fieldSource        protowire.Number = 4
	fieldType          protowire.Number = 5
	fieldAccount       protowire.Number = 6
	fieldRegion        protowire.Number = 7
	fieldDevice        protowire.Number = 8
	fieldClientID      protowire.Number = 9
	fieldThingName     protowire.Number = 10
	fieldCertificateID protowire.Number = 11
	fieldSourceIP      protowire.Number = 12
	fieldRoleSession   protowire.Number = 13
	fieldOutcome       protowire.Number = 14
	fieldCertStatus    protowire.Number = 15
	fieldDaysToExpiry  protowire.Number = 16
	fieldMessage       protowire.Number = 17
	fieldLane          protowire.Number = 18
)

// MaxLanes bounds the lanes of one batch, so that a hostile record cannot make
// a reader hold more.
const MaxLanes = 4096

// ErrBatchMalformed is in the chain of every error about bytes that are not an
// EventBatch.
var ErrBatchMalformed = errors.New("malformed EventBatch")

// BatchEncoder builds the value of one tocsin.events record. The zero value is
// ready; Reset makes it so again and keeps its memory. It is not safe for
// concurrent use.
type BatchEncoder struct {
	buf   []byte
	lanes map[string]uint32
	n     int
}

// Append adds ev, which came in by lane. It copies what it needs: the caller
// may reuse ev and its memory at once. ev.Lane is ignored.
func (b *BatchEncoder) Append(ev *Event, lane string) {
	index, ok := b.lanes[lane]
	if !ok {
		if b.lanes == nil {
			b.lanes = make(map[string]uint32)
		}
		index = uint32(len(b.lanes))
		b.lanes[lane] = index
		b.buf = protowire.AppendTag(b.buf, fieldBatchLanes, protowire.BytesType)
		b.buf = protowire.AppendString(b.buf, lane)
	}
	b.buf = protowire.AppendTag(b.buf, fieldBatchEvents, protowire.BytesType)
	b.buf = protowire.AppendVarint(b.buf, uint64(sizeEvent(ev, index)))
	b.buf = appendEvent(b.buf, ev, index)
	b.n++
}

// Len returns the number of events so far.
func (b *BatchEncoder) Len() int { return b.n }

// Size returns the number of encoded bytes so far.
func (b *BatchEncoder) Size() int { return len(b.buf) }

// Bytes returns the encoded batch. It is valid until the next Append or Reset.
func (b *BatchEncoder) Bytes() []byte { return b.buf }

// Reset empties the encoder.
func (b *BatchEncoder) Reset() {
	b.buf = b.buf[:0]
	b.n = 0
	clear(b.lanes)
}

func sizeBytes(num protowire.Number, b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeBytes(len(b))
}

func sizeVarint(num protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeVarint(v)
}

func sizeEvent(ev *Event, lane uint32) int {
	n := sizeBytes(fieldID, ev.ID[:]) +
		sizeVarint(fieldTime, uint64(ev.Time)) +
		sizeVarint(fieldIngestTime, uint64(ev.IngestTime)) +
		sizeBytes(fieldSource, ev.Source) +
		sizeBytes(fieldType, ev.Type) +
		sizeBytes(fieldAccount, ev.Account) +
		sizeBytes(fieldRegion, ev.Region) +
		sizeBytes(fieldDevice, ev.Device) +
		sizeBytes(fieldClientID, ev.ClientID) +
		sizeBytes(fieldThingName, ev.ThingName) +
		sizeBytes(fieldCertificateID, ev.CertificateID) +
		sizeBytes(fieldSourceIP, ev.SourceIP) +
		sizeBytes(fieldRoleSession, ev.RoleSession) +
		sizeVarint(fieldOutcome, uint64(ev.Outcome)) +
		sizeVarint(fieldCertStatus, uint64(ev.CertificateStatus)) +
		sizeBytes(fieldMessage, ev.Message) +
		sizeVarint(fieldLane, uint64(lane))
	if ev.HasExpiry {
		n += protowire.SizeTag(fieldDaysToExpiry) +
			protowire.SizeVarint(protowire.EncodeZigZag(int64(ev.DaysToExpiry)))
	}
	return n
}

func appendBytes(dst []byte, num protowire.Number, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendBytes(dst, b)
}

func appendVarint(dst []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.VarintType)
	return protowire.AppendVarint(dst, v)
}

// appendEvent writes the fields in the order of their numbers, as the
// generated code does; sizeEvent must agree with it.
func appendEvent(dst []byte, ev *Event, lane uint32) []byte {
	dst = appendBytes(dst, fieldID, ev.ID[:])
	dst = appendVarint(dst, fieldTime, uint64(ev.Time))
	dst = appendVarint(dst, fieldIngestTime, uint64(ev.IngestTime))
	dst = appendBytes(dst, fieldSource, ev.Source)
	dst = appendBytes(dst, fieldType, ev.Type)
	dst = appendBytes(dst, fieldAccount, ev.Account)
	dst = appendBytes(dst, fieldRegion, ev.Region)
	dst = appendBytes(dst, fieldDevice, ev.Device)
	dst = appendBytes(dst, fieldClientID, ev.ClientID)
	dst = appendBytes(dst, fieldThingName, ev.ThingName)
	dst = appendBytes(dst, fieldCertificateID, ev.CertificateID)
	dst = appendBytes(dst, fieldSourceIP, ev.SourceIP)
	dst = appendBytes(dst, fieldRoleSession, ev.RoleSession)
	dst = appendVarint(dst, fieldOutcome, uint64(ev.Outcome))
	dst = appendVarint(dst, fieldCertStatus, uint64(ev.CertificateStatus))
	if ev.HasExpiry {
		dst = protowire.AppendTag(dst, fieldDaysToExpiry, protowire.VarintType)
		dst = protowire.AppendVarint(dst, protowire.EncodeZigZag(int64(ev.DaysToExpiry)))
	}
	dst = appendBytes(dst, fieldMessage, ev.Message)
	return appendVarint(dst, fieldLane, uint64(lane))
}

// BatchReader walks an encoded EventBatch without allocating per event. The
// zero value is ready for Reset. It is not safe for concurrent use.
type BatchReader struct {
	rest  []byte
	lanes [][]byte
	err   error
}

// Reset starts on b, which the reader and the events it yields alias: b must
// not change while any of them is in use.
func (r *BatchReader) Reset(b []byte) {
	r.rest, r.err, r.lanes = b, nil, r.lanes[:0]
}

// Next decodes the next event into ev, overwriting all of it, and reports
// whether there was one. After false, Err tells a clean end from bad bytes.
func (r *BatchReader) Next(ev *Event) bool {
	for len(r.rest) > 0 && r.err == nil {
		num, typ, n := protowire.ConsumeTag(r.rest)
		if n < 0 {
			return r.fail(n)
		}
		if typ != protowire.BytesType || num > fieldBatchLanes {
			skip := protowire.ConsumeFieldValue(num, typ, r.rest[n:])
			if skip < 0 {
				return r.fail(skip)
			}
			r.rest = r.rest[n+skip:]
			continue
		}
		value, m := protowire.ConsumeBytes(r.rest[n:])
		if m < 0 {
			return r.fail(m)
		}
		r.rest = r.rest[n+m:]
		if num == fieldBatchLanes {
			if len(r.lanes) == MaxLanes {
				r.err = fmt.Errorf("%w: more than %d lanes", ErrBatchMalformed, MaxLanes)
				return false
			}
			r.lanes = append(r.lanes, value)
			continue
		}
		if err := decodeEvent(value, ev); err != nil {
			r.err = err
			return false
		}
		return true
	}
	return false
}

// Err returns why Next stopped early, nil at a clean end.
func (r *BatchReader) Err() error { return r.err }

// Lane returns the name of the lane with this index, nil when the batch has
// not named it before the event. It aliases the batch.
func (r *BatchReader) Lane(index uint32) []byte {
	if int(index) >= len(r.lanes) {
		return nil
	}
	return r.lanes[index]
}

func (r *BatchReader) fail(code int) bool {
	r.err = fmt.Errorf("%w: %w", ErrBatchMalformed, protowire.ParseError(code))
	return false
}

func decodeEvent(b []byte, ev *Event) error {
	*ev = Event{}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: event: %w", ErrBatchMalformed, protowire.ParseError(n))
		}
		b = b[n:]
		switch typ {
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return fmt.Errorf("%w: event field %d: %w", ErrBatchMalformed, num, protowire.ParseError(n))
			}
			b = b[n:]
			setBytes(ev, num, v)
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return fmt.Errorf("%w: event field %d: %w", ErrBatchMalformed, num, protowire.ParseError(n))
			}
			b = b[n:]
			setVarint(ev, num, v)
		default:
			// A field of a later version: skipped, as protobuf asks.
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return fmt.Errorf("%w: event field %d: %w", ErrBatchMalformed, num, protowire.ParseError(n))
			}
			b = b[n:]
		}
	}
	return nil
}

func setBytes(ev *Event, num protowire.Number, v []byte) {
	switch num {
	case fieldID:
		copy(ev.ID[:], v)
	case fieldSource:
		ev.Source = v
	case fieldType:
		ev.Type = v
	case fieldAccount:
		ev.Account = v
	case fieldRegion:
		ev.Region = v
	case fieldDevice:
		ev.Device = v
	case fieldClientID:
		ev.ClientID = v
	case fieldThingName:
		ev.ThingName = v
	case fieldCertificateID:
		ev.CertificateID = v
	case fieldSourceIP:
		ev.SourceIP = v
	case fieldRoleSession:
		ev.RoleSession = v
	case fieldMessage:
		ev.Message = v
	}
}

func setVarint(ev *Event, num protowire.Number, v uint64) {
	switch num {
	case fieldTime:
		ev.Time = int64(v)
	case fieldIngestTime:
		ev.IngestTime = int64(v)
	case fieldOutcome:
		ev.Outcome = Outcome(min(v, 255))
	case fieldCertStatus:
		ev.CertificateStatus = CertificateStatus(min(v, 255))
	case fieldDaysToExpiry:
		ev.HasExpiry, ev.DaysToExpiry = true, int32(protowire.DecodeZigZag(v))
	case fieldLane:
		ev.Lane = uint32(v)
	}
}

package decode

import (
	"fmt"

	"github.com/tocsin-io/tocsin/internal/jsonscan"
)

// envelope decodes an object that may be a document around others.
func (d *Decoder) envelope(rec *record, o origin, depth int) {
	switch {
	case rec.has(fMessageType) && rec.has(fLogGroup) && rec.has(fLogEvents):
		d.cloudWatch(rec, o, depth)
	case rec.object(fAWSLogs):
		d.lambda(rec, o, depth)
	case rec.has(fSNSType) && rec.has(fMessageID) && rec.has(fTopicARN):
		d.sns(rec, o, depth)
	case rec.get(fRecords).Kind == jsonscan.Array:
		d.records(rec, o, depth)
	default:
		d.record(rec, o, depth)
	}
}

// lambda decodes the event that CloudWatch Logs hands to a Lambda function:
// {"awslogs":{"data":"<base64 of gzip>"}}.
func (d *Decoder) lambda(rec *record, o origin, depth int) {
	v, _ := jsonscan.Lookup(rec.get(fAWSLogs).Raw, "data")
	if v.Kind != jsonscan.String {
		d.reject(Rejection{Reason: ReasonShape, Err: fmt.Errorf("event for AWS Lambda: awslogs.data is a %v, want a string", v.Kind), Raw: rec.raw})
		return
	}
	data := v.Raw
	if v.Escaped {
		l := &d.levels[depth]
		l.message = jsonscan.Unescape(l.message[:0], v.Raw)
		data = l.message
	}
	d.unbase64(data, o, depth+1)
}

// sns decodes what was published to an SNS topic. Messages about the
// subscription itself are events as they are: somebody has to confirm it.
func (d *Decoder) sns(rec *record, o origin, depth int) {
	l := &d.levels[depth]
	l.names = l.names[:0]
	if ms, ok := ParseTime(rec.get(fSNSTimestamp)); ok {
		o.time = ms
	}
	o.id = [4][]byte{idSNS, d.text(rec.get(fMessageID), &l.names)}
	o.seq = 0
	message := rec.get(fSNSMessage)
	if !rec.is(fSNSType, "Notification") || message.Kind != jsonscan.String {
		o.typ = d.text(rec.get(fSNSType), &l.names)
		d.generic(rec.raw, o)
		return
	}
	l.message = jsonscan.Unescape(l.message[:0], message.Raw)
	if len(l.message) == 0 {
		d.generic(rec.raw, o)
		return
	}
	d.payload(l.message, o, depth+1)
}

// records decodes the file form of CloudTrail, {"Records":[...]}, which S3's
// notifications share.
func (d *Decoder) records(rec *record, o origin, depth int) {
	if depth+1 >= maxLevels {
		d.reject(Rejection{Reason: ReasonTooDeep, Err: fmt.Errorf("more than %d envelopes around one another", maxLevels-3), Raw: rec.raw})
		return
	}
	raw := rec.get(fRecords).Raw
	s := &d.levels[depth].scan
	// The scanner has read the whole object: it is free, and this cannot fail.
	saved := *s
	s.Reset(raw)
	s.Enter()
	n := 0
	for s.Element() {
		v := s.Value()
		n++
		if v.Kind != jsonscan.Object {
			d.reject(Rejection{Reason: ReasonShape, Err: fmt.Errorf("element %d of Records is a %v, want an object", n-1, v.Kind), Raw: v.Raw})
			continue
		}
		d.one(v.Raw, o, depth+1)
		o.seq++
	}
	*s = saved
	if n == 0 {
		d.stats.Empty++
	}
}

// one decodes the object raw, which is known to be whole, as a record.
func (d *Decoder) one(raw []byte, o origin, depth int) {
	l := &d.levels[depth]
	l.scan.Reset(raw)
	if l.rec.scan(&l.scan, raw) {
		d.record(&l.rec, o, depth)
	}
}

// eventBridge decodes an EventBridge event. A detail of a known kind is the
// record, so that it is the same event as by its other routes; of the others the
// whole is.
func (d *Decoder) eventBridge(rec *record, o origin, depth int) {
	l := &d.levels[depth]
	l.names = l.names[:0]
	if account := d.text(rec.get(fAccount), &l.names); len(account) > 0 {
		o.account = account
	}
	if region := d.text(rec.get(fRegion), &l.names); len(region) > 0 {
		o.region = region
	}
	if ms, ok := ParseTime(rec.get(fTime)); ok {
		o.time = ms
	}
	if id := d.text(rec.get(fID), &l.names); len(id) > 0 {
		o.id, o.seq = [4][]byte{idEventBridge, id}, 0
	}
	if detail := rec.get(fDetail); detail.Kind == jsonscan.Object && depth+1 < maxLevels {
		inner := &d.levels[depth+1]
		inner.scan.Reset(detail.Raw)
		if inner.rec.scan(&inner.scan, detail.Raw) {
			if f := formatOf(&inner.rec, false); f != formatGeneric && f != formatEventBridge {
				d.format(f, &inner.rec, o)
				return
			}
		}
	}
	o.typ = d.text(rec.get(fDetailType), &l.names)
	d.generic(rec.raw, o)
}

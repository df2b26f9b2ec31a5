package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// recordPrinter writes the records of one partition as JSON lines.
type recordPrinter struct {
	topic     string
	partition int
	out       *lineWriter

	batch schemas.BatchReader
	buf   bytes.Buffer
}

// tapLine is one line. Exactly one of the last fields is set.
type tapLine struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Offset    int64  `json:"offset"`
	Time      string `json:"time"` // the record's

	Event      *tapEvent       `json:"event,omitempty"`
	Match      *tapMatch       `json:"match,omitempty"`
	Watermark  *tapWatermark   `json:"watermark,omitempty"`
	Detection  json.RawMessage `json:"detection,omitempty"`
	DeadLetter *tapDeadLetter  `json:"dead_letter,omitempty"`
	Other      *tapOther       `json:"record,omitempty"`
	Error      string          `json:"error,omitempty"` // why the record cannot be decoded
}

type tapEvent struct {
	ID                string `json:"id"`
	Time              string `json:"time"`
	IngestTime        string `json:"ingest_time"`
	Source            string `json:"source"`
	Type              string `json:"type,omitempty"`
	Account           string `json:"account,omitempty"`
	Region            string `json:"region,omitempty"`
	Device            string `json:"device"`
	ClientID          string `json:"client_id,omitempty"`
	ThingName         string `json:"thing_name,omitempty"`
	CertificateID     string `json:"certificate_id,omitempty"`
	CertificateStatus string `json:"certificate_status,omitempty"`
	DaysToExpiry      *int32 `json:"days_to_expiry,omitempty"`
	SourceIP          string `json:"source_ip,omitempty"`
	RoleSession       string `json:"role_session,omitempty"`
	Outcome           string `json:"outcome,omitempty"`
	Lane              string `json:"lane,omitempty"`
	Message           any    `json:"message"` // JSON as it is, anything else as a string
}

type tapMatch struct {
	EventID         string   `json:"event_id"`
	Time            string   `json:"time"`
	SourcePartition int      `json:"source_partition"`
	SourceOffset    int64    `json:"source_offset"`
	Correlation     string   `json:"correlation"` // hash, in hex
	Step            uint32   `json:"step"`
	Group           string   `json:"group"` // quoted as Go does: its encoding is binary
	Value           string   `json:"value,omitempty"`
	Number          *float64 `json:"number,omitempty"`
}

// tapWatermark is a MatchBatch without matches.
type tapWatermark struct {
	SourcePartition int    `json:"source_partition"`
	Time            string `json:"time"`
	Idle            bool   `json:"idle"`
}

type tapDeadLetter struct {
	schemas.DeadLetter
	Text string `json:"text,omitempty"` // raw, where it is text
}

type tapOther struct {
	Key   string `json:"key,omitempty"`
	Size  int    `json:"size"`
	Value any    `json:"value,omitempty"`
}

// print writes the lines of r. It fails only when the output does: a record
// that does not decode gets a line that says so.
func (p *recordPrinter) print(r *kafka.FetchedRecord) error {
	line := tapLine{Topic: p.topic, Partition: p.partition, Offset: r.Offset, Time: rfc3339(r.Time.UnixMilli())}
	switch p.topic {
	case schemas.TopicEvents:
		return p.events(line, r)
	case schemas.TopicMatches:
		return p.matches(line, r)
	case schemas.TopicDetections:
		if line.Detection = r.Value; !json.Valid(r.Value) {
			line.Detection, line.Error = nil, "not JSON"
		}
	case schemas.TopicDeadLetter:
		line.DeadLetter = &tapDeadLetter{}
		if err := json.Unmarshal(r.Value, &line.DeadLetter.DeadLetter); err != nil {
			line.DeadLetter, line.Error = nil, err.Error()
		} else if raw := line.DeadLetter.Raw; utf8.Valid(raw) {
			line.DeadLetter.Text = string(raw)
		}
	default:
		line.Other = &tapOther{Key: string(r.Key), Size: len(r.Value), Value: text(r.Value)}
	}
	return p.write(&line)
}

func (p *recordPrinter) events(line tapLine, r *kafka.FetchedRecord) error {
	p.batch.Reset(r.Value)
	var ev schemas.Event
	for p.batch.Next(&ev) {
		e := &tapEvent{
			ID: ev.ID.String(), Time: rfc3339(ev.Time), IngestTime: rfc3339(ev.IngestTime),
			Source: string(ev.Source), Type: string(ev.Type), Account: string(ev.Account), Region: string(ev.Region),
			Device: string(ev.Device), ClientID: string(ev.ClientID), ThingName: string(ev.ThingName),
			CertificateID: string(ev.CertificateID), CertificateStatus: ev.CertificateStatus.String(),
			SourceIP: string(ev.SourceIP), RoleSession: string(ev.RoleSession), Outcome: ev.Outcome.String(),
			Lane: string(p.batch.Lane(ev.Lane)), Message: text(ev.Message),
		}
		if ev.HasExpiry {
			e.DaysToExpiry = &ev.DaysToExpiry
		}
		line.Event = e
		if err := p.write(&line); err != nil {
			return err
		}
	}
	if err := p.batch.Err(); err != nil {
		line.Event, line.Error = nil, err.Error()
		return p.write(&line)
	}
	return nil
}

func (p *recordPrinter) matches(line tapLine, r *kafka.FetchedRecord) error {
	var batch schemas.MatchBatchReader
	err := batch.Reset(r.Value)
	var m schemas.Match
	n := 0
	for err == nil && batch.Next(&m) {
		n++
		line.Match = &tapMatch{
			EventID: m.ID.String(), Time: rfc3339(m.Time), SourcePartition: batch.SourcePartition, SourceOffset: m.Offset,
			Correlation: fmt.Sprintf("%016x", m.Correlation), Step: m.Step, Group: fmt.Sprintf("%q", m.Group), Value: string(m.Value),
		}
		if m.HasNumber {
			line.Match.Number = &m.Number
		}
		if err := p.write(&line); err != nil {
			return err
		}
	}
	line.Match = nil
	if err == nil {
		err = batch.Err()
	}
	switch {
	case err != nil:
		line.Error = err.Error()
		return p.write(&line)
	case n == 0:
		line.Watermark = &tapWatermark{SourcePartition: batch.SourcePartition, Time: rfc3339(batch.Watermark), Idle: batch.Idle}
		return p.write(&line)
	}
	return nil
}

func (p *recordPrinter) write(line *tapLine) error {
	p.buf.Reset()
	enc := json.NewEncoder(&p.buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(line); err != nil {
		return err
	}
	return p.out.line(bytes.TrimSuffix(p.buf.Bytes(), []byte("\n")))
}

// text returns b as JSON when it is JSON, as a string when it is text, and as
// bytes (base64 in JSON) otherwise.
func text(b []byte) any {
	switch {
	case len(b) == 0:
		return nil
	case json.Valid(b):
		return json.RawMessage(b)
	case utf8.Valid(b):
		return string(b)
	}
	return b
}

// rfc3339 writes Unix milliseconds; "" for times that RFC 3339 has no form for.
func rfc3339(ms int64) string {
	t := time.UnixMilli(ms).UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return ""
	}
	return t.Format("2006-01-02T15:04:05.000Z07:00")
}

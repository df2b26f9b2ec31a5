package ruletest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/ingest/decode"
	"github.com/tocsin-io/tocsin/ingest/identity"
	"github.com/tocsin-io/tocsin/rules"
	"github.com/tocsin-io/tocsin/schemas"
)

// eventMaker turns the events of one test into what ingest would make of them.
type eventMaker struct {
	decoder *decode.Decoder
	arena   []byte
}

func newEventMaker() *eventMaker {
	return &eventMaker{decoder: decode.New(decode.Options{Bindings: identity.NewBindings(1 << 10)})}
}

// event returns the event number i of a test, at that time.
func (m *eventMaker) event(i int, e *rules.TestEvent, at time.Time) (*schemas.Event, error) {
	var ev *schemas.Event
	var rejected error
	events := 0
	m.decoder.Decode(e.Message, decode.Hints{Received: at}, func(decoded *schemas.Event) {
		events++
		ev = decoded.Clone()
	}, func(r decode.Rejection) {
		rejected = fmt.Errorf("ingest rejects the message (%s): %w", r.Reason, r.Err)
	})
	switch {
	case rejected != nil:
		return nil, rejected
	case events == 0:
		return nil, fmt.Errorf("the message holds no event")
	case events > 1:
		return nil, fmt.Errorf("the message holds %d events: write each as one of its own", events)
	}
	if err := m.override(ev, e.Envelope); err != nil {
		return nil, err
	}
	ev.Time, ev.IngestTime = at.UnixMilli(), at.UnixMilli()
	// Copies of one message are events of their own here; ingest would take equal
	// lines without a time for one that was delivered twice.
	ev.ID = schemas.NewEventID([]byte("rule test"), binary.BigEndian.AppendUint64(nil, uint64(i)))
	return ev, nil
}

// override sets the envelope fields that the test gives. The device key follows
// from them unless it is given, too.
func (m *eventMaker) override(ev *schemas.Event, envelope map[string]string) error {
	rekey := false
	for name, value := range envelope {
		var err error
		switch name {
		case "device":
			ev.Device = []byte(value)
		case "client_id":
			ev.ClientID, rekey = []byte(value), true
		case "thing_name":
			ev.ThingName, rekey = []byte(value), true
		case "certificate_id":
			ev.CertificateID, rekey = []byte(value), true
		case "source_ip":
			ev.SourceIP, rekey = []byte(value), true
		case "account":
			ev.Account, rekey = []byte(value), true
		case "region":
			ev.Region = []byte(value)
		case "source":
			ev.Source = []byte(value)
		case "event_type":
			ev.Type = []byte(value)
		case "role_session":
			ev.RoleSession = []byte(value)
		case "outcome":
			ev.Outcome, err = parseEnum(name, value, schemas.OutcomeUnknown, schemas.OutcomeFailure)
		case "certificate_status":
			ev.CertificateStatus, err = parseEnum(name, value, schemas.CertUnspecified, schemas.CertRevokedByCA)
		case "certificate_days_to_expiry":
			days, parseErr := strconv.ParseInt(value, 10, 32)
			if parseErr != nil {
				err = fmt.Errorf("certificate_days_to_expiry is %q, not a number of days", value)
			}
			ev.HasExpiry, ev.DaysToExpiry = true, int32(days)
		default:
			err = fmt.Errorf("an event cannot be given %s", name)
		}
		if err != nil {
			return err
		}
	}
	if _, given := envelope["device"]; rekey && !given {
		m.arena = m.arena[:0]
		ev.Device = slices.Clone(identity.DeviceKey(&m.arena, ev, nil))
	}
	return nil
}

// parseEnum finds the value from low to high that has this name.
func parseEnum[T interface {
	~uint8
	fmt.Stringer
}](field, name string, low, high T) (T, error) {
	var known []string
	for v := low; v <= high; v++ {
		if v.String() == name {
			return v, nil
		}
		if v.String() != "" {
			known = append(known, v.String())
		}
	}
	return low, fmt.Errorf("%s is %q, not one of %v", field, name, known)
}

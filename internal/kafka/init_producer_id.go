package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	kgo "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// initProducerID asks any broker for a new idempotent producer ID.
func (c *Client) initProducerID(ctx context.Context) (producerSession, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	m, err := c.transport.RoundTrip(ctx, c.addr, &initProducerIDExchange{clientID: c.cfg.ClientID})
	if err != nil {
		return producerSession{}, fmt.Errorf("init producer ID: %w", err)
	}
	x := m.(*initProducerIDExchange)
	if x.code != 0 {
		return producerSession{}, fmt.Errorf("init producer ID: %w", x.code)
	}
	return x.session, nil
}

// initProducerIDExchange is an InitProducerId request and its response. kafka-go has the request too, but takes it for one of
// a transaction: it first looks up the coordinator of the transaction "", which makes the brokers create the transaction log
// and needs a permission that an idempotent producer does not.
type initProducerIDExchange struct {
	clientID string
	code     kgo.Error
	session  producerSession
}

var _ protocol.RawExchanger = (*initProducerIDExchange)(nil)

// ApiKey implements protocol.Message.
func (x *initProducerIDExchange) ApiKey() protocol.ApiKey { return protocol.InitProducerId }

// Required implements protocol.RawExchanger.
func (x *initProducerIDExchange) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange implements protocol.RawExchanger, in version 1: every broker since Kafka 2.0 has it, and the later ones add only
// the continuation of a known ID.
func (x *initProducerIDExchange) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	const correlation = 1
	be := binary.BigEndian
	b := make([]byte, 4, 64)
	b = be.AppendUint16(b, uint16(protocol.InitProducerId))
	b = be.AppendUint16(b, 1)
	b = be.AppendUint32(b, correlation)
	b = be.AppendUint16(b, uint16(len(x.clientID)))
	b = append(b, x.clientID...)
	b = be.AppendUint16(b, ^uint16(0)) // no transactional ID
	b = be.AppendUint32(b, 60_000)     // transaction timeout, unused
	be.PutUint32(b, uint32(len(b)-4))
	if _, err := rw.Write(b); err != nil {
		return nil, err
	}
	const size = 4 + 4 + 2 + 8 + 2
	var res [4 + size]byte
	if _, err := io.ReadFull(rw, res[:]); err != nil {
		return nil, noEOF(err)
	}
	r := wireReader{b: res[:]}
	if n, id := r.int32(), r.int32(); n != size || id != correlation {
		return nil, fmt.Errorf("init producer ID: response of %d bytes for request %d", n, id)
	}
	r.int32() // throttle time
	x.code = kgo.Error(r.int16())
	x.session = producerSession{id: r.int64(), epoch: r.int16()}
	return x, nil
}

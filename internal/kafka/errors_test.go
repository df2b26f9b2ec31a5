package kafka

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	kgo "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/sasl"
)

// withBrokerHost is what the transport tells a SASL mechanism about the connection.
func withBrokerHost(ctx context.Context, host string) context.Context {
	return sasl.WithMetadata(ctx, &sasl.Metadata{Host: host, Port: 9098})
}

func TestReason(t *testing.T) {
	for _, test := range []struct {
		err       error
		want      string
		permanent bool
	}{
		{nil, "", false},
		{io.EOF, ReasonNetwork, false},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, ReasonNetwork, false},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, ReasonTimeout, false},
		{context.DeadlineExceeded, ReasonTimeout, false},
		{context.Canceled, ReasonCanceled, false},
		{x509.UnknownAuthorityError{}, ReasonTLS, false},
		{protocol.NewErrNoTopic("t"), ReasonUnknownTopic, false},
		{protocol.NewErrNoLeader("t", 1), ReasonNoLeader, false},
		{kgo.NotLeaderForPartition, ReasonNoLeader, false},
		{kgo.MessageSizeTooLarge, ReasonTooLarge, true},
		{kgo.TopicAuthorizationFailed, ReasonAuth, true},
		{kgo.SASLAuthenticationFailed, ReasonAuth, true},
		{kgo.InvalidMessage, ReasonCorrupt, false},
		{kgo.InvalidRecord, ReasonCorrupt, true},
		{kgo.InvalidTopic, ReasonUnknownTopic, true},
		{kgo.UnknownTopicOrPartition, ReasonUnknownTopic, false},
		{kgo.NotEnoughReplicas, ReasonNotEnoughISR, false},
		{kgo.OutOfOrderSequenceNumber, ReasonProducerState, false},
		{kgo.IllegalGeneration, ReasonFenced, false},
		{kgo.Error(9999), ReasonOther, false},
		{io.ErrNoProgress, ReasonOther, false},
	} {
		for _, err := range []error{test.err, fmt.Errorf("wrapped: %w", test.err)} {
			if test.err == nil && err != nil {
				continue
			}
			if got := Reason(err); got != test.want || permanent(err) != test.permanent {
				t.Errorf("%v: reason %q permanent %v, want %q %v", err, got, permanent(err), test.want, test.permanent)
			}
		}
	}
}

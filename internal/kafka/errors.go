package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	kgo "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

var (
	// ErrTooLarge is returned for a record that the topic will never accept because of its size. Callers dead-letter a
	// truncated form.
	ErrTooLarge = errors.New("record is larger than the topic accepts")
	// ErrClosed is returned for records that a closing producer could not deliver.
	ErrClosed = errors.New("kafka producer is closed")
	// ErrCorrupt is returned for a record batch that does not decode.
	ErrCorrupt = errors.New("corrupt record batch")
	// ErrOffsetOutOfRange is returned by [Client.FetchFrom] for an offset that retention deleted or that does not exist yet.
	ErrOffsetOutOfRange error = kgo.OffsetOutOfRange
	// ErrFenced is returned by [Assignment.Commit] when the partition belongs to a newer generation of the group.
	ErrFenced = errors.New("partition was taken over by a newer generation of the consumer group")
)

// Reasons that [Reason] returns. They are metric labels: the set is fixed.
const (
	ReasonTimeout         = "timeout"
	ReasonNetwork         = "network"
	ReasonTLS             = "tls"
	ReasonAuth            = "auth"
	ReasonTooLarge        = "too_large"
	ReasonNoLeader        = "no_leader"
	ReasonNotEnoughISR    = "not_enough_replicas"
	ReasonUnknownTopic    = "unknown_topic"
	ReasonProducerState   = "producer_state"
	ReasonOffsetRange     = "offset_out_of_range"
	ReasonFenced          = "fenced"
	ReasonCoordinator     = "coordinator"
	ReasonCorrupt         = "corrupt"
	ReasonThrottled       = "throttled"
	ReasonInvalid         = "invalid_request"
	ReasonUnsupported     = "unsupported_version"
	ReasonStorage         = "broker_storage"
	ReasonClosed          = "closed"
	ReasonCanceled        = "canceled"
	ReasonOther           = "other"
	reasonGenerationEnded = "generation_ended"
)

// Reason classifies an error from this package or a broker into a small fixed set of strings, fit for a metric label.
func Reason(err error) string {
	if err == nil {
		return ""
	}
	switch {
	case errors.Is(err, ErrTooLarge):
		return ReasonTooLarge
	case errors.Is(err, ErrClosed):
		return ReasonClosed
	case errors.Is(err, ErrCorrupt):
		return ReasonCorrupt
	case errors.Is(err, ErrFenced):
		return ReasonFenced
	case errors.Is(err, kgo.ErrGenerationEnded):
		return reasonGenerationEnded
	}
	var code kgo.Error
	if errors.As(err, &code) {
		return codeReason(code)
	}
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var authority x509.UnknownAuthorityError
	var netErr net.Error
	switch {
	case errors.As(err, &verification), errors.As(err, &record), errors.As(err, &alert), errors.As(err, &authority):
		return ReasonTLS
	case errors.Is(err, protocol.ErrNoTopic), errors.Is(err, protocol.ErrNoPartition):
		return ReasonUnknownTopic
	case errors.Is(err, protocol.ErrNoLeader):
		return ReasonNoLeader
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return ReasonTimeout
	case errors.Is(err, context.Canceled):
		return ReasonCanceled
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ReasonNetwork
	case errors.As(err, &netErr):
		if netErr.Timeout() {
			return ReasonTimeout
		}
		return ReasonNetwork
	}
	return ReasonOther
}

func codeReason(code kgo.Error) string {
	switch code {
	case kgo.MessageSizeTooLarge, kgo.RecordListTooLarge, kgo.InvalidMessageSize:
		return ReasonTooLarge
	case kgo.TopicAuthorizationFailed, kgo.GroupAuthorizationFailed, kgo.ClusterAuthorizationFailed, kgo.SASLAuthenticationFailed,
		kgo.UnsupportedSASLMechanism, kgo.IllegalSASLState, kgo.TransactionalIDAuthorizationFailed, kgo.BrokerAuthorizationFailed,
		kgo.SecurityDisabled:
		return ReasonAuth
	case kgo.LeaderNotAvailable, kgo.NotLeaderForPartition, kgo.BrokerNotAvailable, kgo.ReplicaNotAvailable, kgo.FencedLeaderEpoch,
		kgo.UnknownLeaderEpoch, kgo.OffsetNotAvailable, kgo.PreferredLeaderNotAvailable, kgo.EligibleLeadersNotAvailable,
		kgo.NotController, kgo.ListenerNotFound:
		return ReasonNoLeader
	case kgo.NotEnoughReplicas, kgo.NotEnoughReplicasAfterAppend:
		return ReasonNotEnoughISR
	case kgo.UnknownTopicOrPartition, kgo.UnknownTopicID, kgo.InconsistentTopicID, kgo.InvalidTopic:
		return ReasonUnknownTopic
	case kgo.OutOfOrderSequenceNumber, kgo.DuplicateSequenceNumber, kgo.InvalidProducerEpoch, kgo.InvalidProducerIDMapping,
		kgo.UnknownProducerId, kgo.ProducerFenced, kgo.InvalidTransactionState, kgo.TransactionCoordinatorFenced:
		return ReasonProducerState
	case kgo.OffsetOutOfRange:
		return ReasonOffsetRange
	case kgo.IllegalGeneration, kgo.UnknownMemberId, kgo.RebalanceInProgress, kgo.FencedInstanceID:
		return ReasonFenced
	case kgo.GroupLoadInProgress, kgo.GroupCoordinatorNotAvailable, kgo.NotCoordinatorForGroup, kgo.UnstableOffsetCommit:
		return ReasonCoordinator
	case kgo.InvalidMessage, kgo.InvalidRecord, kgo.UnsupportedCompressionType:
		return ReasonCorrupt
	case kgo.RequestTimedOut:
		return ReasonTimeout
	case kgo.NetworkException:
		return ReasonNetwork
	case kgo.ThrottlingQuotaExceeded:
		return ReasonThrottled
	case kgo.KafkaStorageError, kgo.LogDirNotFound:
		return ReasonStorage
	case kgo.UnsupportedVersion, kgo.UnsupportedForMessageFormat:
		return ReasonUnsupported
	case kgo.InvalidRequest, kgo.InvalidConfiguration, kgo.PolicyViolation, kgo.InvalidTimestamp, kgo.InvalidRequiredAcks,
		kgo.InvalidGroupId, kgo.InvalidSessionTimeout, kgo.InvalidPartitionNumber, kgo.InvalidReplicationFactor:
		return ReasonInvalid
	}
	return ReasonOther
}

// permanent reports whether sending the same request again cannot help. Everything not known to be permanent is retried:
// an unknown error must cost time, never records.
func permanent(err error) bool {
	switch Reason(err) {
	case ReasonTooLarge, ReasonAuth, ReasonInvalid, ReasonUnsupported, ReasonClosed:
		return true
	case ReasonCorrupt:
		// InvalidMessage is a checksum that failed on the way: sending again helps. The others are about content.
		return !errors.Is(err, kgo.InvalidMessage)
	case ReasonUnknownTopic:
		return errors.Is(err, kgo.InvalidTopic)
	}
	return false
}

// metadataIsStale reports whether the error says that the cluster looks different from what the client believes.
func metadataIsStale(err error) bool {
	switch Reason(err) {
	case ReasonNoLeader, ReasonUnknownTopic, ReasonNetwork, ReasonTimeout, ReasonStorage:
		return true
	}
	return false
}

package testkit

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// KafkaFake starts an in-memory broker that speaks the Kafka protocol, for tests that must be fast or inject faults. It has
// no replication, and its timing says nothing about Kafka. It is closed when the test ends.
func KafkaFake(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatalf("start kfake: %v", err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

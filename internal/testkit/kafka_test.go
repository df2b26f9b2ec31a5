package testkit_test

import (
	"context"
	"net"
	"testing"
	"time"

	kgo "github.com/segmentio/kafka-go"

	"github.com/tocsin-io/tocsin/internal/testkit"
)

func brokersKnownTo(t *testing.T, addr string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := kgo.DialContext(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	brokers, err := conn.Brokers()
	if err != nil {
		t.Fatal(err)
	}
	return len(brokers)
}

func TestKafkaNodeLifecycle(t *testing.T) {
	k := testkit.StartKafka(t, testkit.KafkaOptions{})
	addr := k.Brokers()[0]
	if n := brokersKnownTo(t, addr); n != 1 {
		t.Fatalf("%d brokers", n)
	}
	if i := k.NodeAt(addr); i != 0 {
		t.Errorf("NodeAt(%s) = %d", addr, i)
	}
	k.KillNode(t, 0)
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Fatal("a killed broker accepts connections")
	}
	k.RestartNode(t, 0)
	if n := brokersKnownTo(t, addr); n != 1 {
		t.Fatalf("%d brokers after the restart", n)
	}
}

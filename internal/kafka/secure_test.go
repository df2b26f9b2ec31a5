package kafka_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/internal/kafka"
)

func TestSecureListener(t *testing.T) {
	secure := breakableKafka.Cluster(t).Secure()
	valid := kafka.Config{
		Brokers: secure.Brokers,
		TLS:     kafka.TLS{Enabled: true, CAFile: secure.CAFile},
		SASL:    kafka.SASL{Mechanism: kafka.MechanismPlain, Username: secure.Username, Password: secure.Password},
	}
	for _, mechanism := range []string{kafka.MechanismPlain, kafka.MechanismScramSHA256, kafka.MechanismScramSHA512} {
		t.Run(mechanism, func(t *testing.T) {
			cfg := valid
			cfg.SASL.Mechanism = mechanism
			c, err := kafka.Dial(cfg, zaptest.NewLogger(t))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			topic := "secure-" + mechanism
			ensureTopics(t, c, kafka.TopicSpec{Name: topic, Partitions: 1})
			p := newProducer(t, c, kafka.ProducerOptions{})
			want := numbered(100)
			mustProduce(t, p, topic, 0, want)
			// The group has a connection of its own, which must be as secure.
			var got []string
			runHandler(t, c, kafka.GroupOptions{GroupID: topic, Topics: []string{topic}}, func(ctx context.Context, a *kafka.Assignment) error {
				var buf kafka.FetchBuffer
				for len(got) < len(want) {
					batch, err := a.Fetch(ctx, &buf)
					if err != nil {
						return err
					}
					for _, r := range batch.Records {
						got = append(got, string(r.Value))
					}
				}
				return a.Commit(ctx, a.Position())
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, test := range []struct {
		name   string
		change func(*kafka.Config)
		reason string
	}{
		{"wrong password, plain", func(c *kafka.Config) { c.SASL.Password = "wrong" }, kafka.ReasonAuth},
		{"wrong password, scram", func(c *kafka.Config) { c.SASL.Mechanism, c.SASL.Password = kafka.MechanismScramSHA512, "wrong" }, kafka.ReasonAuth},
		{"unknown authority", func(c *kafka.Config) { c.TLS.CAFile = "" }, kafka.ReasonTLS},
		{"other server name", func(c *kafka.Config) { c.TLS.ServerName = "kafka.example" }, kafka.ReasonTLS},
		{"no TLS", func(c *kafka.Config) { c.TLS = kafka.TLS{} }, kafka.ReasonNetwork},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := valid
			test.change(&cfg)
			c, err := kafka.Dial(cfg, zaptest.NewLogger(t))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := c.Ping(ctx); kafka.Reason(err) != test.reason {
				t.Errorf("ping: %v (%s), want reason %s", err, kafka.Reason(err), test.reason)
			}
			if test.reason != kafka.ReasonAuth {
				return
			}
			// A producer says the same, and does not take it for a missing topic.
			p := newProducer(t, c, kafka.ProducerOptions{})
			if err = p.Produce(ctx, "secure-PLAIN", 0, kafka.Record{Value: []byte("v")}); kafka.Reason(err) != kafka.ReasonAuth {
				t.Errorf("produce: %v (%s)", err, kafka.Reason(err))
			}
		})
	}
}

package main

import (
	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

// kafkaConfig turns the section of the configuration into the client's options.
func kafkaConfig(c *config.Kafka) kafka.Config {
	return kafka.Config{
		Brokers:        c.Brokers,
		ClientID:       c.ClientID,
		DialTimeout:    c.DialTimeout.Std(),
		RequestTimeout: c.RequestTimeout.Std(),
		TLS: kafka.TLS{
			Enabled:            c.TLS.Enabled,
			CAFile:             c.TLS.CAFile,
			CertFile:           c.TLS.CertFile,
			KeyFile:            c.TLS.KeyFile,
			ServerName:         c.TLS.ServerName,
			InsecureSkipVerify: c.TLS.InsecureSkipVerify,
		},
		SASL: kafka.SASL{
			Mechanism: c.SASL.Mechanism,
			Username:  c.SASL.Username,
			Password:  c.SASL.Password.Reveal(),
			Region:    c.SASL.Region,
		},
	}
}

// maxMessageBytes of the topics: a log message of 1 MiB, which CloudWatch allows
// and which need not compress, must fit with its envelope, and a dead letter in
// base64.
const maxMessageBytes = 4 << 20

// topicSpecs are the topics of the pipeline. All that are keyed by partition
// number have the partitions of tocsin.events: worker n owns partition n of
// each.
func topicSpecs(c *config.Topics) []kafka.TopicSpec {
	spec := func(name string) kafka.TopicSpec {
		return kafka.TopicSpec{
			Name: name, Partitions: c.Partitions, ReplicationFactor: c.Replication, MaxMessageBytes: maxMessageBytes,
		}
	}
	kept := func(name string, retention config.Duration) kafka.TopicSpec {
		s := spec(name)
		s.Retention = retention.Std()
		return s
	}
	compacted := func(name string) kafka.TopicSpec {
		s := spec(name)
		s.Compacted = true
		return s
	}
	return []kafka.TopicSpec{
		kept(schemas.TopicEvents, c.Retention.Events),
		kept(schemas.TopicMatches, c.Retention.Matches),
		kept(schemas.TopicDetections, c.Retention.Detections),
		kept(schemas.TopicDeadLetter, c.Retention.DeadLetter),
		kept(schemas.TopicActions, c.Retention.Actions),
		compacted(schemas.TopicIdentities),
		correlate.StateTopic(c.Partitions, c.Replication),
	}
}

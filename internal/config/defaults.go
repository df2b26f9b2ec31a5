package config

import (
	"time"

	"go.yaml.in/yaml/v4"
)

// The elements of lists have defaults too, which decoding into a fresh element
// would lose; so these types set their own before they are decoded.

// UnmarshalYAML reads a stream over its defaults.
func (k *Kinesis) UnmarshalYAML(n *yaml.Node) error {
	type plain Kinesis
	*k = Kinesis{Start: StartTrimHorizon, Workers: 1, PollInterval: Duration(time.Second)}
	return n.Load((*plain)(k))
}

// UnmarshalYAML reads a webhook over its defaults.
func (w *Webhook) UnmarshalYAML(n *yaml.Node) error {
	type plain Webhook
	*w = Webhook{
		MinLevel:    "medium",
		Activities:  []string{"created"},
		Timeout:     Duration(15 * time.Second),
		GiveUpAfter: Duration(24 * time.Hour),
		Concurrency: 4,

		RefusedAttempts: 3,
	}
	return n.Load((*plain)(w))
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/aws_msk_iam_v2"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/tocsin-io/tocsin/internal/tlsconfig"
)

// SASL mechanisms, by the names Kafka gives them.
const (
	MechanismNone        = ""
	MechanismPlain       = "PLAIN"
	MechanismScramSHA256 = "SCRAM-SHA-256"
	MechanismScramSHA512 = "SCRAM-SHA-512"
	MechanismMSKIAM      = "AWS_MSK_IAM"
)

// Config says how to reach a Kafka cluster. The zero value of every field but Brokers is usable.
type Config struct {
	// Brokers are host:port addresses to start from; the rest of the cluster is discovered.
	Brokers []string
	// ClientID appears in the broker's logs, metrics and quotas. Default "tocsin".
	ClientID string
	// TLS files are read once, by [Dial].
	TLS  TLS
	SASL SASL
	// DialTimeout bounds TCP connect, TLS handshake and SASL exchange together. Default 5 s.
	DialTimeout time.Duration
	// RequestTimeout bounds one round trip to a broker that is connected. A broker that is silent for longer is taken for
	// dead: the connection is closed and the request retried elsewhere. Default 10 s.
	RequestTimeout time.Duration
}

// TLS configures transport encryption.
type TLS = tlsconfig.Client

// SASL configures authentication.
type SASL struct {
	// Mechanism is one of the Mechanism constants.
	Mechanism string
	// Username and Password are for PLAIN and SCRAM.
	Username, Password string
	// Region is for AWS_MSK_IAM, whose credentials come from the AWS default chain. Default: the chain's region.
	Region string
}

const (
	defaultClientID       = "tocsin"
	defaultDialTimeout    = 5 * time.Second
	defaultRequestTimeout = 10 * time.Second
)

func (c Config) withDefaults() Config {
	if c.ClientID == "" {
		c.ClientID = defaultClientID
	}
	if c.DialTimeout <= 0 {
		c.DialTimeout = defaultDialTimeout
	}
	if c.RequestTimeout <= 0 {
		c.RequestTimeout = defaultRequestTimeout
	}
	return c
}

// Validate returns every problem of the configuration, not only the first. It reads no file and opens no connection.
func (c Config) Validate() []error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		bad("kafka brokers: at least one host:port is needed")
	}
	for _, b := range c.Brokers {
		host, port, err := net.SplitHostPort(b)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || host == "" || perr != nil || n == 0 {
			bad("kafka broker %q: want host:port", b)
		}
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("kafka tls: a client certificate needs both its certificate file and its key file")
	}
	if !c.TLS.Enabled && (c.TLS.CAFile != "" || c.TLS.CertFile != "" || c.TLS.ServerName != "" || c.TLS.InsecureSkipVerify) {
		bad("kafka tls: options are set but TLS is not enabled; set enabled: true")
	}
	switch c.SASL.Mechanism {
	case MechanismNone:
		if c.SASL.Username != "" || c.SASL.Password != "" {
			bad("kafka sasl: a user name or password is set but no mechanism")
		}
	case MechanismPlain, MechanismScramSHA256, MechanismScramSHA512:
		if c.SASL.Username == "" || c.SASL.Password == "" {
			bad("kafka sasl: %s needs a user name and a password", c.SASL.Mechanism)
		}
	case MechanismMSKIAM:
		if !c.TLS.Enabled {
			bad("kafka sasl: AWS_MSK_IAM works only over TLS; enable it")
		}
	default:
		bad("kafka sasl: mechanism %q is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, AWS_MSK_IAM", c.SASL.Mechanism)
	}
	if c.DialTimeout < 0 || c.RequestTimeout < 0 {
		bad("kafka timeouts must not be negative")
	}
	return problems
}

// mechanism returns nil when SASL is off. For AWS_MSK_IAM it loads the AWS default credential chain, which reads the
// environment and files; credentials themselves are fetched per connection.
func (s SASL) mechanism(ctx context.Context) (sasl.Mechanism, error) {
	switch s.Mechanism {
	case MechanismNone:
		return nil, nil
	case MechanismPlain:
		return plain.Mechanism{Username: s.Username, Password: s.Password}, nil
	case MechanismScramSHA256:
		return scram.Mechanism(scram.SHA256, s.Username, s.Password)
	case MechanismScramSHA512:
		return scram.Mechanism(scram.SHA512, s.Username, s.Password)
	case MechanismMSKIAM:
		var opts []func(*awsconfig.LoadOptions) error
		if s.Region != "" {
			opts = append(opts, awsconfig.WithRegion(s.Region))
		}
		cfg, err := awsconfig.LoadDefaultConfig(ctx, opts...)
		if err != nil {
			return nil, fmt.Errorf("kafka sasl: AWS configuration: %w", err)
		}
		if cfg.Region == "" {
			return nil, errors.New("kafka sasl: AWS_MSK_IAM needs a region; set it in the configuration or AWS_REGION")
		}
		return &aws_msk_iam_v2.Mechanism{Signer: v4.NewSigner(), Credentials: cfg.Credentials, Region: cfg.Region}, nil
	default:
		return nil, fmt.Errorf("kafka sasl: unknown mechanism %q", s.Mechanism)
	}
}

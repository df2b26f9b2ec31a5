package correlate

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/internal/testkit"
)

// realKafka is an Apache Kafka broker for the tests that need more than kfake.
var realKafka testkit.SharedKafka

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(runChild())
	}
	// Most of what runs side by side waits for brokers: processors are not what
	// bounds it.
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		if err := parallel.Value.Set("3"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	realKafka.Stop()
	moto.Stop()
	// Correlators, producers and clients that were closed leave nothing running.
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

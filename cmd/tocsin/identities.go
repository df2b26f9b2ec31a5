package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/internal/identities"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/registry"
	"github.com/tocsin-io/tocsin/internal/telemetry"
	"github.com/tocsin-io/tocsin/schemas"
)

type identitiesCmd struct {
	List   identitiesListCmd   `cmd:"" help:"List certificates: expiring, invalid, of a thing."`
	Show   identitiesShowCmd   `cmd:"" help:"Show one certificate."`
	Export identitiesExportCmd `cmd:"" help:"Print every certificate as JSON lines."`
	Import identitiesImportCmd `cmd:"" help:"Hand certificates to the registry."`
	Sync   identitiesSyncCmd   `cmd:"" help:"Have the running registry read its sources now."`
}

// identityReader has what tocsin.identities holds.
type identityReader struct {
	cfg    *config.Config
	client *kafka.Client
	table  *registry.Table // nil until load
}

// openIdentities connects to Kafka.
func openIdentities(std streams, flags *configFlags) (*identityReader, *app, error) {
	cfg, err := flags.load()
	if err != nil {
		return nil, nil, err
	}
	log, err := telemetry.NewLogger(std.err, "warn", cfg.Log.Format)
	if err != nil {
		return nil, nil, err
	}
	client, err := kafka.Dial(kafkaConfig(&cfg.Kafka), log)
	if err != nil {
		return nil, nil, &exitError{code: exitConfig, err: err}
	}
	return &identityReader{cfg: cfg, client: client}, &app{std: std, cfg: cfg, log: log}, nil
}

// load reads all certificates into memory: the topic is compacted now and then
// only, so a record is the newest when there is none behind it.
func (r *identityReader) load(ctx context.Context, a *app) error {
	follower, err := identities.Open(ctx, r.client, a.log)
	if err != nil {
		return &exitError{code: exitFailed, err: err, try: "tocsin run to create the topics, or set kafka.brokers or TOCSIN_KAFKA_BROKERS"}
	}
	r.table = registry.New(registry.Options{})
	registry.Follow(follower, r.table, a.log, nil)
	loading := make(chan error, 1)
	go func() { loading <- follower.Load(ctx) }()
	p := newProgress(a.std.err)
	for began := time.Now(); ; {
		select {
		case err := <-loading:
			if p.tty && time.Since(began) > time.Second {
				p.end(fmt.Sprintf("%s certificates read", grouped(int64(r.table.Len()))))
			}
			return err
		case <-time.After(100 * time.Millisecond):
			if time.Since(began) > time.Second {
				p.show(fmt.Sprintf("reading %s: %s certificates", schemas.TopicIdentities, grouped(int64(r.table.Len()))))
			}
		}
	}
}

// identityJSON is a certificate as a person or a program is told of it: the
// record, and what it comes to now.
type identityJSON struct {
	schemas.Certificate
	Effective    string `json:"effective_status"`
	DaysToExpiry *int   `json:"days_to_expiry,omitempty"`
}

func describeIdentity(c *schemas.Certificate, now time.Time) identityJSON {
	out := identityJSON{Certificate: *c, Effective: c.StatusAt(now).String()}
	if !c.NotAfter.IsZero() {
		days := int(c.NotAfter.Sub(now).Hours() / 24)
		out.DaysToExpiry = &days
	}
	return out
}

// owner names who uses a certificate.
func owner(c *schemas.Certificate) string {
	switch {
	case len(c.Things) > 0:
		return joinNames(c.Things)
	case len(c.ClientIDs) > 0:
		return joinNames(c.ClientIDs)
	}
	return ""
}

func joinNames(names []string) string {
	if len(names) > 2 {
		return fmt.Sprintf("%s and %d more", names[len(names)-1], len(names)-1)
	}
	return strings.Join(names, ", ")
}

// day writes a date, "" for none.
func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

// minute writes a time to the minute, "" for none.
func minute(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// encodeLine writes v as one line.
func encodeLine(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

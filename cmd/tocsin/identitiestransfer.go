package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tocsin-io/tocsin/correlate/identity/certificate"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
)

type identitiesExportCmd struct {
	configFlags
}

// Help returns what --help prints below the usage.
func (identitiesExportCmd) Help() string {
	return `Each line is a record that tocsin identities import takes.

Examples:

    tocsin identities export > certificates.jsonl`
}

// Run runs the command.
func (c *identitiesExportCmd) Run(std streams) error {
	r, a, err := openIdentities(std, &c.configFlags)
	if err != nil {
		return err
	}
	defer r.client.Close()
	ctx, cancel := a.signals()
	defer cancel()
	if err := r.load(ctx, a); err != nil {
		return err
	}
	out := bufio.NewWriterSize(std.out, 1<<16)
	r.table.Range(func(cert *schemas.Certificate) bool {
		err = encodeLine(out, cert)
		return err == nil
	})
	return errors.Join(err, out.Flush())
}

type identitiesImportCmd struct {
	configFlags
	Files  []string `arg:"" name:"file" help:"JSON lines as tocsin identities export prints them, or PEM certificates; - for standard input."`
	Status string   `placeholder:"STATUS" help:"State at the broker of PEM certificates: ACTIVE, INACTIVE, REVOKED."`
	Claim  bool     `help:"PEM certificates are claims: devices share them until they have one of their own."`
	// Complete is what makes other IDs UNKNOWN: see schemas.Sync.
	Complete bool `help:"These, with what the registry has, are all certificates there are: others count as unknown from now on."`
	DryRun   bool `help:"Only read the files."`
}

// Help returns what --help prints below the usage.
func (identitiesImportCmd) Help() string {
	return `The registry ("tocsin registry", or "tocsin run") merges what is imported with what it knows: an older state does not
undo a newer one, and a revocation is never taken back. For a fleet with a CA and a broker of its own this is its inventory.

Examples:

    tocsin identities import --status ACTIVE --complete devices/*.pem
    tocsin identities import certificates.jsonl
    cat devices/*.pem | tocsin identities import --status ACTIVE -`
}

// importBatch is how many records are handed to Kafka at once.
const importBatch = 500

// Run runs the command. It stops at the first thing that is no certificate: half
// an inventory that looks whole would make the rest unknown.
func (c *identitiesImportCmd) Run(std streams) error {
	var status schemas.CertificateStatus
	if err := status.UnmarshalText([]byte(c.Status)); err != nil {
		return &exitError{code: exitUsage, err: fmt.Errorf("--status: %w", err), try: "tocsin identities import --help"}
	}
	var all []schemas.Certificate
	for _, name := range c.Files {
		read, err := readIdentityFile(name, schemas.Certificate{
			Status: status, StatusReason: "import", StatusSince: time.Now().UTC().Truncate(time.Millisecond), Claim: c.Claim,
		})
		if err != nil {
			return &exitError{code: exitFailed, err: err}
		}
		all = append(all, read...)
	}
	if c.DryRun {
		_, err := fmt.Fprintf(std.out, "%s certificates would be imported\n", grouped(int64(len(all))))
		return err
	}
	r, a, err := openIdentities(std, &c.configFlags)
	if err != nil {
		return err
	}
	defer r.client.Close()
	ctx, cancel := a.signals()
	defer cancel()
	if err := r.publish(ctx, a, all, c.Complete); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%s certificates handed to the registry\n", grouped(int64(len(all))))
	return err
}

// publish writes all as facts for the registry, and, with complete, that there
// are no others; this last, when all before it is acknowledged.
func (r *identityReader) publish(ctx context.Context, a *app, all []schemas.Certificate, complete bool) error {
	partitions, err := r.client.Partitions(ctx, schemas.TopicIdentities)
	if err != nil {
		return &exitError{code: exitFailed, err: err, try: "tocsin run to create the topics"}
	}
	producer, err := kafka.NewProducer(r.client, kafka.ProducerOptions{Compression: r.cfg.Kafka.Compression})
	if err != nil {
		return err
	}
	p := newProgress(a.std.err)
	byPartition := make(map[int][]kafka.Record)
	flush := func(partition int) error {
		err := producer.Produce(ctx, schemas.TopicIdentities, partition, byPartition[partition]...)
		byPartition[partition] = byPartition[partition][:0]
		return err
	}
	for i := range all {
		value, err := json.Marshal(&all[i])
		if err != nil {
			return fmt.Errorf("certificate %s: %w", all[i].ID, err)
		}
		partition := schemas.Partition([]byte(all[i].ID), partitions)
		byPartition[partition] = append(byPartition[partition], kafka.Record{Key: []byte(schemas.KeyImport + all[i].ID), Value: value})
		if len(byPartition[partition]) >= importBatch {
			if err := flush(partition); err != nil {
				return errors.Join(err, producer.Close(ctx))
			}
			p.show(fmt.Sprintf("%s of %s certificates", grouped(int64(i+1)), grouped(int64(len(all)))))
		}
	}
	for partition, records := range byPartition {
		if len(records) > 0 {
			err = errors.Join(err, flush(partition))
		}
	}
	if complete && err == nil {
		now := time.Now().UTC()
		const source = "import"
		var value []byte
		if value, err = json.Marshal(schemas.Sync{Source: source, FirstComplete: now, Updated: now}); err == nil {
			err = producer.Produce(ctx, schemas.TopicIdentities, schemas.Partition([]byte(source), partitions),
				kafka.Record{Key: []byte(schemas.KeySync + source), Value: value})
		}
	}
	return errors.Join(err, producer.Close(ctx))
}

// maxImportLine bounds one JSON record.
const maxImportLine = 1 << 20

// readIdentityFile reads JSON lines, or PEM certificates with the given fields.
func readIdentityFile(name string, fields schemas.Certificate) ([]schemas.Certificate, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	} else {
		name = "standard input"
	}
	r := bufio.NewReaderSize(in, 1<<16)
	if head, _ := r.Peek(1 << 10); bytes.HasPrefix(bytes.TrimSpace(head), []byte("{")) {
		return readIdentityLines(name, r)
	}
	doc, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var out []schemas.Certificate
	for {
		var block *pem.Block
		if block, doc = pem.Decode(doc); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := certificate.Parse(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s, certificate %d: %w", name, len(out)+1, err)
		}
		if c.IsCA {
			continue // the chain behind a device certificate
		}
		rec := fields
		rec.ID, rec.Serial, rec.Issuer, rec.IssuerKeyID, rec.Subject = c.ID, c.Serial, c.Issuer, c.IssuerKeyID, c.Subject
		rec.NotBefore, rec.NotAfter, rec.Key, rec.Updated = c.NotBefore, c.NotAfter, c.Key, fields.StatusSince
		out = append(out, rec)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: neither JSON lines nor device certificates in PEM", name)
	}
	return out, nil
}

func readIdentityLines(name string, r io.Reader) ([]schemas.Certificate, error) {
	var out []schemas.Certificate
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxImportLine)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var c schemas.Certificate
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		id, ok := schemas.NormalizeCertificateID(c.ID)
		if !ok {
			return nil, fmt.Errorf("%s:%d: certificate_id %q is not 64 hex digits", name, n, c.ID)
		}
		c.ID = id
		out = append(out, c)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}

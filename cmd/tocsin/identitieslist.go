package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/schemas"
)

type identitiesListCmd struct {
	configFlags
	Invalid  bool     `help:"Only those that must not be used: revoked, expired, inactive, pending."`
	Expiring string   `placeholder:"30d" help:"Only those that expire within this time, or have."`
	Status   []string `placeholder:"STATUS" help:"Only those in one of these states: ACTIVE, INACTIVE, REVOKED, REVOKED_BY_CA, EXPIRED, UNKNOWN, ..."`
	Weak     bool     `help:"Only those with a weak key."`
	Thing    string   `placeholder:"NAME" help:"Only those of this thing or client ID."`
	Limit    int      `default:"100" placeholder:"N" help:"At most N, those that expire first; 0 for all."`
	JSON     bool     `name:"json" help:"One object per line."`
}

// Help returns what --help prints below the usage.
func (identitiesListCmd) Help() string {
	return `Those that expire first come first. What is invalid and what expires is also in ClickHouse, for SQL.

Examples:

    tocsin identities list --invalid
    tocsin identities list --expiring 30d --limit 0 --json | jq -r .things[]
    tocsin identities list --thing pump-0001`
}

// Run runs the command.
func (c *identitiesListCmd) Run(std streams) error {
	wanted, err := c.filter(time.Now())
	if err != nil {
		return &exitError{code: exitUsage, err: err, try: "tocsin identities list --help"}
	}
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
	var found []schemas.Certificate
	r.table.Range(func(cert *schemas.Certificate) bool {
		if wanted(cert) {
			found = append(found, *cert)
		}
		return true
	})
	slices.SortFunc(found, func(a, b schemas.Certificate) int {
		return cmp.Or(compareExpiry(a.NotAfter, b.NotAfter), strings.Compare(a.ID, b.ID))
	})
	found = slices.CompactFunc(found, func(a, b schemas.Certificate) bool { return a.ID == b.ID })
	total := len(found)
	if c.Limit > 0 {
		found = found[:min(c.Limit, total)]
	}
	return c.write(std.out, found, total, r.table.Len())
}

// compareExpiry sorts those whose expiry is not known last.
func compareExpiry(a, b time.Time) int {
	if a.IsZero() != b.IsZero() {
		if a.IsZero() {
			return 1
		}
		return -1
	}
	return a.Compare(b)
}

// filter returns what the flags ask for.
func (c *identitiesListCmd) filter(now time.Time) (func(*schemas.Certificate) bool, error) {
	var states []schemas.CertificateStatus
	for _, name := range c.Status {
		var s schemas.CertificateStatus
		if err := s.UnmarshalText([]byte(strings.ToUpper(name))); err != nil || name == "" {
			return nil, fmt.Errorf("--status %q: no certificate has this state", name)
		}
		states = append(states, s)
	}
	var until time.Time
	if c.Expiring != "" {
		d, err := config.ParseDuration(c.Expiring)
		if err != nil {
			return nil, fmt.Errorf("--expiring: %w", err)
		}
		until = now.Add(d)
	}
	if c.Limit < 0 {
		return nil, errors.New("--limit must not be negative")
	}
	return func(cert *schemas.Certificate) bool {
		status := cert.StatusAt(now)
		switch {
		case c.Invalid && (status == schemas.CertActive || status == schemas.CertUnspecified):
			return false
		case len(states) > 0 && !slices.Contains(states, status):
			return false
		case !until.IsZero() && (cert.NotAfter.IsZero() || cert.NotAfter.After(until)):
			return false
		case c.Weak && cert.Key.Weak == "":
			return false
		case c.Thing != "" && !slices.Contains(cert.Things, c.Thing) && !slices.Contains(cert.ClientIDs, c.Thing):
			return false
		}
		return true
	}, nil
}

func (c *identitiesListCmd) write(w io.Writer, found []schemas.Certificate, total, all int) error {
	now := time.Now()
	if c.JSON {
		b := bufio.NewWriter(w)
		for i := range found {
			if err := encodeLine(b, describeIdentity(&found[i], now)); err != nil {
				return err
			}
		}
		return b.Flush()
	}
	t := table{head: []string{"CERTIFICATE", "STATUS", "EXPIRES", "LAST SEEN", "USED BY"}}
	for i := range found {
		cert := &found[i]
		t.add(cert.ID[:min(16, len(cert.ID))], cert.StatusAt(now).String(), day(cert.NotAfter), minute(cert.LastSeen), clip(owner(cert), 32))
	}
	if len(found) > 0 {
		if err := t.write(w); err != nil {
			return err
		}
	}
	more := ""
	if total > len(found) {
		more = fmt.Sprintf(", %s of them above (--limit 0 for all)", grouped(int64(len(found))))
	}
	_, err := fmt.Fprintf(w, "%s of %s certificates%s\n", grouped(int64(total)), grouped(int64(all)), more)
	return err
}

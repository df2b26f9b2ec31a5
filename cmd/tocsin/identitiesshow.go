package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tocsin-io/tocsin/internal/registry"
	"github.com/tocsin-io/tocsin/schemas"
)

type identitiesShowCmd struct {
	configFlags
	What   string `arg:"" name:"certificate" help:"Certificate ID or its first digits (8 or more), serial number in any spelling, common name, thing or client ID."`
	Issuer string `placeholder:"ISSUER" help:"Name or key identifier of the issuer, for a serial number that several have given."`
	JSON   bool   `name:"json" help:"One object per line."`
}

// Help returns what --help prints below the usage.
func (identitiesShowCmd) Help() string {
	return `Examples:

    tocsin identities show 3d5c0a1e
    tocsin identities show 1A:98:EB:03:53:9E
    tocsin identities show pump-0001 --json`
}

// Run runs the command.
func (c *identitiesShowCmd) Run(std streams) error {
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
	found := lookUp(r.table, c.What, c.Issuer)
	if len(found) == 0 {
		return &exitError{
			code: exitFailed, err: fmt.Errorf("none of %s certificates is, or is used by, %q", grouped(int64(r.table.Len())), c.What),
			try: "tocsin identities list",
		}
	}
	now := time.Now()
	b := bufio.NewWriter(std.out)
	for i := range found {
		if c.JSON {
			err = encodeLine(b, describeIdentity(&found[i], now))
		} else {
			err = writeIdentity(b, &found[i], now)
		}
		if err != nil {
			return err
		}
	}
	return b.Flush()
}

// minPrefix is how many digits of an ID must be given.
const minPrefix = 8

// lookUp finds a certificate by whatever a person has of it; the surest first.
func lookUp(t *registry.Table, what, issuer string) []schemas.Certificate {
	if id, ok := schemas.NormalizeCertificateID(what); ok {
		if c, ok := t.Get(id); ok {
			return []schemas.Certificate{c}
		}
	}
	if found := t.Issued(issuer, what); len(found) > 0 {
		return found
	}
	var found []schemas.Certificate
	prefix := strings.ToLower(what)
	t.Range(func(c *schemas.Certificate) bool {
		if len(what) >= minPrefix && strings.HasPrefix(c.ID, prefix) || slices.Contains(c.Things, what) ||
			slices.Contains(c.ClientIDs, what) || registry.CommonName(c.Subject) == what {
			found = append(found, *c)
		}
		return true
	})
	slices.SortFunc(found, func(a, b schemas.Certificate) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(found, func(a, b schemas.Certificate) bool { return a.ID == b.ID })
}

func writeIdentity(w io.Writer, c *schemas.Certificate, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	status := c.StatusAt(now)
	row("certificate", c.ID)
	row("status", status.String())
	if c.Status != schemas.CertUnspecified {
		row("at the broker", strings.TrimSpace(fmt.Sprintf("%s since %s %s", c.Status, minute(c.StatusSince), parenthesis(c.StatusReason))))
	}
	if c.Revoked != nil {
		row("by its CA", fmt.Sprintf("revoked %s %s in %s", minute(c.Revoked.Time), parenthesis(c.Revoked.Reason), c.Revoked.Source))
	}
	row("subject", c.Subject)
	row("issuer", c.Issuer)
	row("serial", c.Serial)
	if !c.NotAfter.IsZero() {
		row("valid", fmt.Sprintf("%s to %s (%s)", day(c.NotBefore), day(c.NotAfter), remaining(c.NotAfter.Sub(now))))
	}
	if c.Key.Type != "" {
		row("key", strings.TrimSpace(fmt.Sprintf("%s %d %s", c.Key.Type, c.Key.Bits, parenthesis(c.Key.Weak))))
	}
	row("things", strings.Join(c.Things, ", "))
	row("client IDs", strings.Join(c.ClientIDs, ", "))
	row("last seen", strings.TrimSpace(minute(c.LastSeen)+" "+c.SourceIP))
	if c.Claim {
		row("claim", "yes: devices share it until they have one of their own")
	}
	row("registered", minute(c.Created))
	fmt.Fprintln(t)
	return t.Flush()
}

func parenthesis(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}

// remaining writes a time to or since expiry.
func remaining(d time.Duration) string {
	days := int(d.Hours() / 24)
	if d < 0 {
		return fmt.Sprintf("expired %d days ago", -days)
	}
	return fmt.Sprintf("%d days left", days)
}

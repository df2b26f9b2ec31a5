package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

type identitiesSyncCmd struct {
	Addr string `placeholder:"HOST:PORT" default:"127.0.0.1:9464" help:"Admin listener (admin.listen) of the process that runs the registry."`
}

// Help returns what --help prints below the usage.
func (identitiesSyncCmd) Help() string {
	return `The inventory, revocation lists and reports are read now instead of at the next interval.

Examples:

    tocsin identities sync
    tocsin identities sync --addr 10.0.0.7:9464`
}

// Run runs the command.
func (c *identitiesSyncCmd) Run(std streams) error {
	base := strings.TrimSuffix(c.Addr, "/")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/identities/sync", nil)
	if err != nil {
		return &exitError{code: exitUsage, err: fmt.Errorf("--addr %q: %w", c.Addr, err)}
	}
	const try = "tocsin identities sync --addr HOST:PORT, with the admin listener of tocsin registry or tocsin run"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return &exitError{code: exitFailed, err: fmt.Errorf("nothing answers at %s: %w", c.Addr, errors.Unwrap(err)), try: try}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return &exitError{code: exitFailed, err: fmt.Errorf("%s answers %s: %s", c.Addr, res.Status, strings.TrimSpace(string(body))), try: try}
	}
	_, err = fmt.Fprintln(std.out, "the registry has begun to read its sources")
	return err
}

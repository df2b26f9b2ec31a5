package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/tocsin-io/tocsin/internal/telemetry"
)

type versionCmd struct {
	JSON bool `help:"Print JSON."`
}

// Help returns what --help prints below the usage.
func (versionCmd) Help() string {
	return `Example:

    tocsin version --json`
}

// Run runs the command.
func (c *versionCmd) Run(std streams) error {
	b := telemetry.ReadBuild()
	if c.JSON {
		return json.NewEncoder(std.out).Encode(map[string]any{
			"version": b.Version, "revision": b.Revision, "modified": b.Modified, "time": b.Time,
			"go": b.Go, "os": runtime.GOOS, "arch": runtime.GOARCH,
		})
	}
	line := "tocsin " + b.Version
	if b.Revision != "" {
		line += " (" + b.Revision + ", " + b.Time
		if b.Modified {
			line += ", modified"
		}
		line += ")"
	}
	_, err := fmt.Fprintf(std.out, "%s %s %s/%s\n", line, b.Go, runtime.GOOS, runtime.GOARCH)
	return err
}

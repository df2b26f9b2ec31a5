package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

// watchRules reloads when a rule file appears, changes or goes. It looks at
// names, sizes and times every interval: notifications of the file system miss
// what a network file system or a Kubernetes volume does.
func (a *app) watchRules(ctx context.Context, paths []string, interval time.Duration) error {
	known := fingerprint(paths)
	pending := known
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := fingerprint(paths)
		// Loaded only when two looks agree: in between, somebody is writing.
		if now == known || now != pending {
			pending = now
			continue
		}
		known = now
		if err := a.reload.Reload(ctx); err != nil {
			a.log.Error("rules changed on disk and cannot be loaded; what was in force stays", zap.Error(err))
		} else {
			a.log.Info("rules changed on disk and were loaded")
		}
	}
}

// fingerprint is over the names, sizes and times of all files below paths. What
// cannot be read counts as not there.
func fingerprint(paths []string) uint64 {
	h := fnv.New64a()
	for _, path := range paths {
		_ = filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			info, err := entry.Info()
			if err == nil && !entry.IsDir() {
				fmt.Fprintf(h, "%s\x00%d\x00%d\x00", name, info.Size(), info.ModTime().UnixNano())
			}
			return nil
		})
	}
	return h.Sum64()
}

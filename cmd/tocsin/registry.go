package main

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/tocsin-io/tocsin/internal/config"
)

type registryCmd struct{ stageFlags }

// Help returns what --help prints below the usage.
func (registryCmd) Help() string {
	return `Keeps one record for every certificate and CA, from what the logs show, the inventory of AWS IoT, revocation lists and
imports, and tells of what expires, is weak, or is revoked and still active. Of several processes with the same
registry.group_id one works and the others stand by.

Example:

    tocsin registry --config tocsin.yaml`
}

// Run runs the command.
func (c *registryCmd) Run(std streams) error {
	return runStages(std, &c.stageFlags, func(cfg *config.Config) (stages, error) {
		if !cfg.Registry.Enabled {
			return stages{}, &exitError{code: exitConfig, err: errors.New("registry.enabled is false")}
		}
		return stages{registry: true}, nil
	})
}

// registrySummary answers with what the registry holds.
func (a *app) registrySummary(w http.ResponseWriter, _ *http.Request) {
	service := a.registry.Load()
	if service == nil {
		http.Error(w, "no registry runs in this process", http.StatusNotImplemented)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(service.Summary()) // to a client that is gone
}

// registrySync has the sources of the registry read now.
func (a *app) registrySync(w http.ResponseWriter, _ *http.Request) {
	service := a.registry.Load()
	switch {
	case service == nil:
		http.Error(w, "no registry runs in this process", http.StatusNotImplemented)
	case !service.SyncNow():
		http.Error(w, "the registry of this process stands by; ask the one that is active (metric tocsin_registry_active)", http.StatusConflict)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

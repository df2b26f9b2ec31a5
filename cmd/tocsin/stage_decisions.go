package main

import (
	"errors"
	"fmt"
	"net"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/sinks/decision"
)

// startDecisions starts the endpoint that brokers ask about certificates.
func (p *plant) startDecisions() error {
	c := &p.cfg.Decisions
	keys := make([]string, len(c.AccessKeys))
	for i, k := range c.AccessKeys {
		keys[i] = k.Reveal()
	}
	tlsConfig, err := p.serverTLS("decisions certificate", &c.TLS)
	if err != nil {
		return &exitError{code: exitConfig, err: fmt.Errorf("decision endpoint: %w", err)}
	}
	scheme := "http"
	if tlsConfig != nil {
		scheme = "https"
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("decision endpoint: %w", err)
	}
	// Without a key whoever reaches the port is answered; the configuration accepts
	// that on a loopback address only.
	server, err := decision.New(decision.Options{
		Table: p.certificates, Listener: listener, TLS: tlsConfig, AccessKeys: keys, Anonymous: len(keys) == 0,
		FailOpen: c.FailOpen, MaxRequests: c.MaxRequests, StopTimeout: p.stopTimeout() / 2,
		Logger: p.log.Named("decisions"), Registerer: p.metrics,
	})
	if err != nil {
		return &exitError{code: exitConfig, err: errors.Join(err, listener.Close())}
	}
	p.decisions = scheme + "://" + listener.Addr().String()
	p.life.Go("decisions", true, server.Run)
	p.log.Info("decision endpoint", zap.String("url", p.decisions), zap.Bool("anonymous", len(keys) == 0), zap.Bool("fail_open", c.FailOpen))
	return nil
}

package config

import "fmt"

// Decisions is the HTTP endpoint that brokers ask about certificates.
type Decisions struct {
	Enabled        bool      `yaml:"enabled"`
	Listen         string    `yaml:"listen"`
	AccessKeys     []Secret  `yaml:"access_keys"`
	AccessKeysFile string    `yaml:"access_keys_file"` // one per line
	TLS            ServerTLS `yaml:"tls"`
	FailOpen       bool      `yaml:"fail_open"`    // unknown certificates are let in while the registry is not complete
	MaxRequests    int       `yaml:"max_requests"` // served at once
}

func defaultDecisions() Decisions {
	return Decisions{Listen: "127.0.0.1:8444", FailOpen: true, MaxRequests: 1024}
}

func (v *validator) decisions(c *Decisions) {
	if !c.Enabled {
		return
	}
	const path = "decisions"
	host, ok := v.address(path+".listen", c.Listen)
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		v.bad(path+".tls", "a certificate needs both cert_file and key_file")
	}
	if c.TLS.CertFile != "" && c.TLS.TerminatedUpstream {
		v.bad(path+".tls.terminated_upstream", "is set together with a certificate; keep one of them")
	}
	if ok && !isLoopback(host) {
		if len(c.AccessKeys) == 0 {
			v.bad(path+".access_keys", "anyone could ask %s about certificates; set access_keys or access_keys_file, or listen on 127.0.0.1", c.Listen)
		}
		if c.TLS.CertFile == "" && !c.TLS.TerminatedUpstream {
			v.bad(path+".tls", "access keys would cross the network in the clear; set cert_file and key_file, or terminated_upstream: true behind a proxy that speaks TLS")
		}
	}
	for i, key := range c.AccessKeys {
		if len(key) < 16 || len(key) > 4096 {
			v.bad(fmt.Sprintf("%s.access_keys[%d]", path, i), "has %d bytes; want 16 to 4096 (openssl rand -hex 32 makes a good one)", len(key))
		}
	}
	between(v, path+".max_requests", c.MaxRequests, 1, 100_000)
}

package config

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
	v.guarded(path, host, ok, &c.TLS, c.AccessKeys, "ask "+c.Listen+" about certificates")
	between(v, path+".max_requests", c.MaxRequests, 1, 100_000)
}

package config

import "fmt"

// guarded checks that a listener which others than this machine can reach asks
// for a key, and that the key does not cross the network in the clear. known
// says that host could be read; what is what anyone could do without a key.
func (v *validator) guarded(path, host string, known bool, tls *ServerTLS, keys []Secret, what string) {
	if (tls.CertFile == "") != (tls.KeyFile == "") {
		v.bad(path+".tls", "a certificate needs both cert_file and key_file")
	}
	if tls.CertFile != "" && tls.TerminatedUpstream {
		v.bad(path+".tls.terminated_upstream", "is set together with a certificate; keep one of them")
	}
	if known && !isLoopback(host) {
		if len(keys) == 0 {
			v.bad(path+".access_keys", "anyone could %s; set access_keys or access_keys_file, or listen on 127.0.0.1", what)
		}
		if tls.CertFile == "" && !tls.TerminatedUpstream {
			v.bad(path+".tls", "access keys would cross the network in the clear; set cert_file and key_file, or terminated_upstream: true behind a load balancer that speaks TLS")
		}
	}
	for i, key := range keys {
		// Firehose sends the key as configured, at most 4096 bytes of it.
		if len(key) < 16 || len(key) > 4096 {
			v.bad(fmt.Sprintf("%s.access_keys[%d]", path, i), "has %d bytes; want 16 to 4096 (openssl rand -hex 32 makes a good one)", len(key))
		}
	}
}

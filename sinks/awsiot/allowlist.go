package awsiot

import (
	"fmt"
	"strings"

	"github.com/tocsin-io/tocsin/schemas"
)

// pattern is an entry of the allow-list.
type pattern struct {
	kind string // client, thing, certificate, or "" for any
	glob string // lower case: a near miss must protect rather than not
	text string // as configured
}

func parsePattern(s string) (pattern, error) {
	p := pattern{glob: strings.ToLower(s), text: s}
	for _, kind := range []string{"client", "thing", "certificate"} {
		if rest, ok := strings.CutPrefix(p.glob, kind+":"); ok {
			p.kind, p.glob = kind, rest
		}
	}
	if p.glob == "" {
		return p, fmt.Errorf("%q: want a name, in which * stands for anything", s)
	}
	return p, nil
}

// allowed returns the entry of the allow-list that protects the target of a, or of
// which one of things is.
func (s *Sink) allowed(a *schemas.Action, things []string) (string, bool) {
	for _, p := range s.allow {
		is := func(kind, name string) bool {
			return name != "" && (p.kind == "" || p.kind == kind) && glob(p.glob, strings.ToLower(name))
		}
		protected := is("client", a.ClientID) || is("thing", a.Thing) || is("certificate", a.CertificateID) ||
			p.kind == "" && is("", a.Device)
		for _, thing := range things {
			protected = protected || is("thing", thing)
		}
		if protected {
			return p.text, true
		}
	}
	return "", false
}

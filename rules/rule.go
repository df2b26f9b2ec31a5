package rules

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// parsedRule is a detection rule before it is linked with the others.
type parsedRule struct {
	*reporter
	node *yaml.Node
	rule Rule
	expr *node
	ok   bool // nothing was wrong so far
}

// parser reads documents into rules, correlations and filters.
type parser struct {
	opts         Options
	regexes      map[string]*regex
	rules        []*parsedRule
	correlations []*parsedCorrelation
	filters      []*parsedFilter
}

func (p *parser) document(d document) {
	d.rule = documentName(d.root)
	switch {
	case member(d.root, "correlation") != nil:
		p.correlations = append(p.correlations, p.correlation(d))
	case member(d.root, "filter") != nil:
		p.filters = append(p.filters, p.filter(d))
	case member(d.root, "detection") != nil:
		p.rules = append(p.rules, p.detectionRule(d))
	case member(d.root, "action") != nil:
		d.error(member(d.root, "action"), "write each rule out as a document of its own", "rule collections (action) are obsolete")
	default:
		d.error(d.root, "a rule needs detection:, a correlation correlation:, a filter filter:", "the document is no rule")
	}
}

// documentName is what diagnostics call a rule.
func documentName(n *yaml.Node) string {
	for _, key := range []string{"title", "name", "id"} {
		if v := member(n, key); v != nil && v.Kind == yaml.ScalarNode && v.Value != "" {
			return v.Value
		}
	}
	return ""
}

func (p *parser) detectionRule(d document) *parsedRule {
	r := &parsedRule{reporter: d.reporter, node: d.root}
	r.rule.Meta = parseMeta(d)
	r.rule.LogSource = parseLogSource(d, true)
	dp := &detectionParser{reporter: d.reporter, opts: &p.opts, regexes: p.regexes}
	r.expr = dp.parse(member(d.root, "detection"))
	a := parseAttributes(d, &p.opts.Limits, "tocsin.evidence")
	r.rule.Evidence = a.evidence
	r.ok = r.errors == 0 && r.expr != nil
	return r
}

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

var statuses = []string{"stable", "test", "experimental", "deprecated", "unsupported"}

func parseMeta(d document) Meta {
	m := Meta{File: d.file, Line: d.root.Line + d.offset, Level: LevelMedium}
	m.ID = scalar(d, "id")
	m.Name = scalar(d, "name")
	m.Title = scalar(d, "title")
	m.Description = strings.TrimSpace(scalar(d, "description"))
	m.Status = scalar(d, "status")
	m.Author = scalar(d, "author")
	m.Date = scalar(d, "date")
	m.Modified = scalar(d, "modified")
	m.Tags = texts(d, "tags")
	m.References = texts(d, "references")
	m.FalsePositives = texts(d, "falsepositives")
	if n := member(d.root, "level"); n != nil {
		level, ok := ParseLevel(strings.ToLower(n.Value))
		if !ok {
			d.error(n, "use informational, low, medium, high or critical", "unknown level %q", n.Value)
		} else {
			m.Level = level
		}
	}
	if m.Status != "" && !slices.Contains(statuses, m.Status) {
		d.warn(member(d.root, "status"), "use "+strings.Join(statuses, ", "), "unknown status %q", m.Status)
	}
	if m.Title == "" {
		d.warn(d.root, "add title:", "the rule has no title")
	}
	switch {
	case m.ID == "":
		m.ID = cmp.Or(m.Name, m.Title)
		if m.ID == "" {
			d.error(d.root, "add title:, and id: with a UUID", "the rule has neither id, name nor title")
			break
		}
		d.warn(d.root, "give it a UUID", "the rule has no id")
	case !uuid.MatchString(m.ID):
		d.warn(member(d.root, "id"), "use a random UUID (uuidgen)", "id %q is not a UUID", m.ID)
	}
	if m.Title == "" {
		m.Title = m.ID
	}
	return m
}

// scalar returns the text of a top-level key, "" if there is none.
func scalar(d document, key string) string {
	n := member(d.root, key)
	if n == nil || isNull(n) {
		return ""
	}
	if n.Kind != yaml.ScalarNode {
		d.warn(n, "", "%s is %s, not a string", key, kindName(n))
		return ""
	}
	return n.Value
}

// texts returns the strings of a top-level list; a single string is a list of
// one.
func texts(d document, key string) []string {
	n := member(d.root, key)
	if n == nil || isNull(n) {
		return nil
	}
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = n.Content
	}
	var out []string
	for _, item := range list {
		if item.Kind != yaml.ScalarNode {
			d.warn(item, "", "%s holds %s, not a string", key, kindName(item))
			continue
		}
		if !isNull(item) {
			out = append(out, item.Value)
		}
	}
	return out
}

func parseLogSource(d document, required bool) LogSource {
	var ls LogSource
	n := member(d.root, "logsource")
	if n == nil || n.Kind != yaml.MappingNode {
		if required {
			d.error(d.root, "add logsource: with product, category or service", "the rule has no logsource")
		}
		return ls
	}
	for key, value := range members(n) {
		var at *string
		switch key.Value {
		case "product":
			at = &ls.Product
		case "category":
			at = &ls.Category
		case "service":
			at = &ls.Service
		default:
			continue // definition, and custom keys
		}
		if value.Kind != yaml.ScalarNode {
			d.error(value, "write one name", "logsource %s is %s", key.Value, kindName(value))
			continue
		}
		if !isNull(value) {
			*at = strings.ToLower(value.Value)
		}
	}
	if required && ls == (LogSource{}) {
		d.error(n, "give product, category or service", "the logsource is empty")
	}
	return ls
}

// attributes are the top-level keys that begin with tocsin.
type attributes struct {
	suppress time.Duration
	realert  RealertMode
	evidence int
}

const defaultEvidence = 20

func parseAttributes(d document, limits *Limits, known ...string) attributes {
	a := attributes{evidence: defaultEvidence}
	for key, value := range members(d.root) {
		if !strings.HasPrefix(key.Value, envelopePrefix) {
			continue
		}
		if !slices.Contains(known, key.Value) {
			d.error(key, nearest(key.Value, known), "unknown attribute %q", key.Value)
			continue
		}
		switch key.Value {
		case "tocsin.suppress":
			t, err := parseTimespan(value.Value, limits.Timespan)
			if err != nil {
				d.error(value, "write a number and a unit, such as 1h", "tocsin.suppress: %s", err)
			}
			a.suppress = t
		case "tocsin.realert":
			switch value.Value {
			case "episode":
			case "each":
				a.realert = RealertEach
			default:
				d.error(value, "use episode or each", "unknown tocsin.realert %q", value.Value)
			}
		case "tocsin.evidence":
			n, err := strconv.Atoi(value.Value)
			if err != nil || n < 0 || n > limits.Evidence {
				d.error(value, fmt.Sprintf("give a number from 0 to %d", limits.Evidence), "tocsin.evidence is %q", value.Value)
			}
			a.evidence = n
		}
	}
	return a
}

// parseTimespan reads a number and one of the units s m h d w M y, the last two
// being 30 and 365 days.
func parseTimespan(text string, limit time.Duration) (time.Duration, error) {
	units := map[byte]time.Duration{
		's': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour,
		'w': 7 * 24 * time.Hour, 'M': 30 * 24 * time.Hour, 'y': 365 * 24 * time.Hour,
	}
	if text == "" {
		return 0, fmt.Errorf("empty timespan")
	}
	unit, ok := units[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	switch {
	case !ok || err != nil:
		return 0, fmt.Errorf("%q is not a timespan", text)
	case n == 0:
		return 0, fmt.Errorf("timespan %q is zero", text)
	case n > uint64(limit/unit):
		return 0, fmt.Errorf("timespan %q exceeds the limit of %s", text, formatTimespan(limit))
	}
	return time.Duration(n) * unit, nil
}

func formatTimespan(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.String()
}

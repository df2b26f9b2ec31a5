package rules

// TestFile is a file of rule tests beside a rule file: brute.test.yml beside
// brute.yml.
type TestFile struct {
	File  string
	Rule  string // ID or name; "" for all rules of the sibling file
	Line  int
	Tests []TestCase
}

// TestCase is one test: events in the order in which they arrive, and what must
// be found.
type TestCase struct {
	Name   string
	Line   int
	Events []TestEvent
	// Matches are, per event, the names of the rules that match it; nil when the
	// test does not say.
	Matches    [][]string
	Detections []TestDetection
	// None: no detection may result.
	None bool
}

// TestEvent is one event of a test.
type TestEvent struct {
	Line     int
	Time     string            // RFC 3339, or an offset from the start of the test ("90s"); "" is the start
	Envelope map[string]string // source, event_type, client_id, ...
	Message  []byte            // JSON, or the text as it is
}

// TestDetection is an expected detection; empty fields are not compared.
type TestDetection struct {
	Line  int
	Rule  string
	Group map[string]string
	Count int
	First string
	Last  string
}

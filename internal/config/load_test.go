package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected errors in testdata")

func noEnv(string) (string, bool) { return "", false }

func env(pairs map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) {
		v, ok := pairs[k]
		return v, ok
	}
}

// Each testdata/bad.*.yaml ends with the errors that it must give, as comments.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/bad.*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			document, want, _ := strings.Cut(string(b), "# want\n")
			_, err = Load("f", []byte(document), noEnv)
			var problems *Error
			if !errors.As(err, &problems) {
				t.Fatalf("got %v", err)
			}
			var got strings.Builder
			for _, p := range problems.Problems {
				got.WriteString("# " + p.String() + "\n")
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(document+"# want\n"+got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDefaultsAreValid(t *testing.T) {
	for _, document := range []string{"", "# nothing\n", "{}", "---\n", "kafka:\ningest:\n  kinesis:\n"} {
		c, err := Load("", []byte(document), noEnv)
		if err != nil {
			t.Fatalf("%q: %v", document, err)
		}
		if diff := cmp.Diff(Default(noEnv), c); diff != "" {
			t.Errorf("%q: %s", document, diff)
		}
	}
}

func TestEnvironmentNamesTheServers(t *testing.T) {
	servers := env(map[string]string{
		EnvKafkaBrokers:  "a:9092, b:9092",
		EnvClickHouseURL: "https://writer:s3cret@store:8443/proxy",
	})
	c, err := Load("", nil, servers)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a:9092", "b:9092"}; !slices.Equal(c.Kafka.Brokers, want) {
		t.Errorf("brokers %q", c.Kafka.Brokers)
	}
	ch := c.ClickHouse
	if ch.URL != "https://store:8443/proxy" || ch.Username != "writer" || ch.Password.Reveal() != "s3cret" {
		t.Errorf("url %q user %q password %q", ch.URL, ch.Username, ch.Password.Reveal())
	}
	c, err = Load("", []byte("kafka: {brokers: [c:1]}\nclickhouse: {url: 'http://d:2'}"), servers)
	if err != nil {
		t.Fatal(err)
	}
	if c.Kafka.Brokers[0] != "c:1" || c.ClickHouse.URL != "http://d:2" {
		t.Errorf("the document must win: %q %q", c.Kafka.Brokers, c.ClickHouse.URL)
	}
}

func TestExpansion(t *testing.T) {
	vars := env(map[string]string{
		"N": "8", "EMPTY": "", "NULL": "null", "INJECT": "x\nlog: {level: debug}", "LIST": "a:1,b:2", "OPEN": "${N}", "D": "7d", "ON": "true",
	})
	load := func(document string) *Config {
		t.Helper()
		c, err := Load("", []byte(document), vars)
		if err != nil {
			t.Fatalf("%s: %v", document, err)
		}
		return c
	}
	if c := load("kafka: {topics: {partitions: '${N}'}}"); c.Kafka.Topics.Partitions != 8 {
		t.Error("a number from a variable", c.Kafka.Topics.Partitions)
	}
	if c := load("kafka: {topics: {retention: {events: '${D}'}}}"); c.Kafka.Topics.Retention.Events.Std() != 7*24*time.Hour {
		t.Error("a duration from a variable")
	}
	if c := load("admin:\n  pprof: ${ON}\n"); !c.Admin.Pprof {
		t.Error("a bool from a variable")
	}
	if c := load("kafka:\n  brokers: ${LIST}\n"); !slices.Equal(c.Kafka.Brokers, []string{"a:1", "b:2"}) {
		t.Error("a list from a variable", c.Kafka.Brokers)
	}
	client := func(value, want string) {
		t.Helper()
		if c := load("kafka:\n  client_id: " + value + "\n"); c.Kafka.ClientID != want {
			t.Errorf("%s: got %q, want %q", value, c.Kafka.ClientID, want)
		}
	}
	client("a${N}b${N}", "a8b8")
	client("${MISSING:some:thing}", "some:thing")
	client("${EMPTY:other}", "") // set counts, even when empty
	client("x$${N}", "x${N}")
	client("$$${N}", "$${N}")
	client("${NULL}", "null")
	client("${OPEN}", "${N}") // what a variable holds is not expanded again
	client("${INJECT}", "x\nlog: {level: debug}")
	if c := load("kafka:\n  client_id: ${INJECT}\n"); c.Log.Level != "info" {
		t.Error("a variable changed the structure of the document")
	}
}

func TestMissingVariablesAreNamedTogether(t *testing.T) {
	_, err := Load("f", []byte("kafka: {client_id: '${A}${B}', brokers: ['${C}:1', '${A}:1']}"), noEnv)
	if err == nil || !strings.Contains(err.Error(), "A, B, C") || strings.Count(err.Error(), "not set") != 1 {
		t.Errorf("got %v", err)
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one := write("one", "hunter2hunter2hunter2\n")
	two := write("two", "key-number-one-00000\n\nkey-number-two-00000\n")
	c, err := Load("", []byte("clickhouse: {password_file: "+one+"}\ningest: {firehose: {access_keys_file: "+two+"}}"), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if c.ClickHouse.Password.Reveal() != "hunter2hunter2hunter2" {
		t.Errorf("password %q", c.ClickHouse.Password.Reveal())
	}
	if want := []Secret{"key-number-one-00000", "key-number-two-00000"}; !slices.Equal(c.Ingest.Firehose.AccessKeys, want) {
		t.Errorf("%d keys", len(c.Ingest.Firehose.AccessKeys))
	}
	bad := func(document, want string) {
		t.Helper()
		if _, err := Load("", []byte(document), noEnv); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", document, err, want)
		}
	}
	bad("clickhouse: {password: x, password_file: "+one+"}", "is set as well")
	bad("clickhouse: {password_file: "+two+"}", "holds 2 lines")
	bad("clickhouse: {password_file: "+write("empty", "\n")+"}", "is empty")
	bad("clickhouse: {password_file: "+filepath.Join(dir, "none")+"}", "no such file")
}

func TestClickHouseURL(t *testing.T) {
	c, err := Load("", []byte("clickhouse: {url: 'http://u:p%40@a:8123,b:8124/proxy'}"), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.ClickHouse; got.URL != "http://a:8123,b:8124/proxy" || got.Username != "u" || got.Password.Reveal() != "p@" {
		t.Errorf("%s, user %s, password %s", got.URL, got.Username, got.Password.Reveal())
	}
}

func TestErrorsShowNoSecret(t *testing.T) {
	const secret = "hunter2hunter2"
	for _, document := range []string{
		"clickhouse: {url: 'http://u:" + secret + "@[bad'}",
		"clickhouse: {url: 'ftp://u:" + secret + "@host'}",
		"sinks: {webhooks: [{name: a, url: 'https://u:" + secret + "@h/', secrets: [" + secret + "]}]}",
		"ingest: {firehose: {access_keys: [" + secret + "]}}",
		"kafka: {sasl: {password: " + secret + "}}",
	} {
		_, err := Load("", []byte(document), noEnv)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v", document, err)
		}
	}
}

// The example must name every key there is, and what it does not comment out
// must be the default.
func TestExample(t *testing.T) {
	b, err := os.ReadFile("../../deploy/tocsin.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load("deploy/tocsin.yaml", b, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	want := Default(noEnv)
	want.Correlate.Rules, want.Ingest.File.Paths = []string{}, []string{}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	// What is commented out must be right as well.
	commented := regexp.MustCompile(`(?m)^( {2,})# ?( *[a-z_-]+[:\s].*)$`).ReplaceAllString(string(b), "$1$2")
	vars := func(k string) (string, bool) {
		return "whsec_" + strings.Repeat("QUJD", 8), k != EnvKafkaBrokers && k != EnvClickHouseURL
	}
	var problems *Error
	if _, err = Load("", []byte(commented), vars); err != nil && errors.As(err, &problems) {
		for _, p := range problems.Problems {
			if !strings.HasSuffix(p.Path, "_file") && !strings.Contains(p.Message, "TLS is off") && !strings.Contains(p.Message, "no mechanism") {
				t.Error(p)
			}
		}
	}
	for key := range allKeys(reflect.TypeFor[Config]()) {
		if !regexp.MustCompile(`(?m)^[ #-]*` + key + `:`).Match(b) {
			t.Errorf("deploy/tocsin.yaml does not mention %s", key)
		}
	}
}

func allKeys(t reflect.Type) map[string]bool {
	keys := map[string]bool{}
	if t.Kind() == reflect.Slice {
		return allKeys(t.Elem())
	}
	if t.Kind() != reflect.Struct {
		return keys
	}
	for name, field := range yamlFields(t) {
		keys[name] = true
		for k := range allKeys(field) {
			keys[k] = true
		}
	}
	return keys
}

func TestLoadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if _, err := LoadFile(path); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, []byte("log: {level: loud}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFile(path); err == nil || !strings.HasPrefix(err.Error(), path+":1:14: log.level: ") {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range append(files, "../../deploy/tocsin.yaml") {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("kafka: {brokers: ${B:a:1}, sasl: {password: *x}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if strings.Contains(string(b), "_file") {
			return // reads the file system
		}
		c, err := Load("f", b, noEnv)
		var problems *Error
		switch {
		case err == nil && c == nil, err != nil && c != nil:
			t.Fatal("neither a configuration nor an error, or both")
		case err != nil && (!errors.As(err, &problems) || len(problems.Problems) == 0):
			t.Fatalf("not an *Error: %v", err)
		}
	})
}

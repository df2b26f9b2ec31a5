package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tocsin runs the program and returns its exit code and what it printed.
func tocsin(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(args, streams{in: strings.NewReader(""), out: &out, err: &err})
	return code, out.String(), err.String()
}

func expect(t *testing.T, args []string, code int, stdout, stderr string) {
	t.Helper()
	c, out, err := tocsin(args...)
	if c != code || !strings.Contains(out, stdout) || !strings.Contains(err, stderr) {
		t.Errorf("tocsin %s: exit %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), c, code, out, err)
	}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEveryCommandHasAnExample(t *testing.T) {
	parser, err := newParser(streams{}, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, node := range parser.Model.Leaves(true) {
		n++
		command := node.FullPath()
		if !strings.Contains(node.Detail, command) || !strings.Contains(node.Detail, "Example") {
			t.Errorf("%s --help has no example", command)
		}
		expect(t, append(strings.Fields(command)[1:], "--help"), exitOK, "    "+command, "")
	}
	if n < 9 {
		t.Errorf("only %d commands", n)
	}
}

func TestUsage(t *testing.T) {
	t.Setenv("TOCSIN_CONFIG", "")
	expect(t, nil, exitOK, "Usage: tocsin <command>", "")
	expect(t, []string{"--help"}, exitOK, "Exit codes", "")
	expect(t, []string{"bogus"}, exitUsage, "", "Try: tocsin --help")
	expect(t, []string{"tap", "--limit", "many"}, exitUsage, "", "Try: tocsin tap --help")
	expect(t, []string{"tap", "--from", "yesterday"}, exitUsage, "", "want earliest, latest or an offset")
	expect(t, []string{"validate", "--format", "xml"}, exitUsage, "", "must be one of")
	expect(t, []string{"generate", "--to", "ftp://x"}, exitUsage, "", "want stdout or a URL")
	expect(t, []string{"generate", "--duration", "1m"}, exitUsage, "", "the attacks need 10m")
}

func TestVersion(t *testing.T) {
	expect(t, []string{"version"}, exitOK, "tocsin ", "")
	_, out, _ := tocsin("version", "--json")
	var v map[string]any
	if err := json.Unmarshal([]byte(out), &v); err != nil || v["go"] == "" || v["version"] == "" {
		t.Errorf("%v in %s", err, out)
	}
}

func TestValidate(t *testing.T) {
	t.Setenv("TOCSIN_CONFIG", "")
	expect(t, []string{"validate"}, exitOK, "ok: the default configuration, ", "")
	expect(t, []string{"validate", "/nowhere.yaml"}, exitFailed, "", "no such file")

	bad := write(t, "bad.yaml", "kafka:\n  broker: x\nlog: {level: loud}\n")
	expect(t, []string{"validate", bad}, exitConfig, bad+":2:3: error: kafka: unknown key \"broker\"; did you mean \"brokers\"?\n"+bad+":3:14: error: log.level: ", "2 problems")
	expect(t, []string{"validate", "--format", "github", bad}, exitConfig, "::error file="+bad+",line=2,col=3::kafka: unknown key", "")
	_, out, _ := tocsin("validate", "--format", "json", bad)
	first, _, _ := strings.Cut(out, "\n")
	var f finding
	if err := json.Unmarshal([]byte(first), &f); err != nil || f.Line != 2 || f.Column != 3 || f.Severity != "error" || f.Path != "kafka" {
		t.Errorf("%v in %s", err, first)
	}

	rule := write(t, "rule.yml", "title: No detection\nlogsource: {product: aws}\n")
	expect(t, []string{"validate", "--rules", rule}, exitConfig, rule+":", "problems")
	expect(t, []string{"validate", "--rules", "/nowhere"}, exitFailed, "", "rules: ")
}

func TestValidateGithubEscapes(t *testing.T) {
	f := finding{File: "a,b.yaml", Line: 1, Column: 2, Severity: "error", Message: "50% of\nit"}
	if got, want := f.github(), "::error file=a%2Cb.yaml,line=1,col=2::50%25 of%0Ait"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestConfigurationErrorsNameTheNextCommand(t *testing.T) {
	bad := write(t, "bad.yaml", "log: {level: loud}")
	for _, command := range []string{"run", "ingest", "correlate", "sink", "migrate", "tap"} {
		expect(t, []string{command, "--config", bad}, exitConfig, "", "log.level: \"loud\" is not one of debug, info, warn, error\nTry: tocsin validate "+bad)
	}
}

func TestSinkNames(t *testing.T) {
	t.Setenv("TOCSIN_CONFIG", "")
	expect(t, []string{"sink", "webhook:soc"}, exitUsage, "", `sink "webhook:soc" is not configured; there are: clickhouse`)
	none := write(t, "none.yaml", "sinks: {clickhouse: {enabled: false}}")
	expect(t, []string{"sink", "--config", none}, exitConfig, "", "no sink is configured")
}

func TestGenerateToStdout(t *testing.T) {
	labels := filepath.Join(t.TempDir(), "labels.json")
	args := []string{"generate", "--devices", "120", "--duration", "10m", "--labels", labels}
	code, out, stderr := tocsin(args...)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if code != exitOK || len(lines) < 1000 {
		t.Fatalf("exit %d, %d lines, %s", code, len(lines), stderr)
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Fatalf("not JSON: %s", line)
		}
	}
	b, err := os.ReadFile(labels)
	var l []map[string]any
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil || len(l) != 6 {
		t.Errorf("%d labels, %v", len(l), err)
	}
	code, out, _ = tocsin("generate", "--devices", "10", "--duration", "1m", "--no-attacks")
	if code != exitOK || strings.Contains(out, "REVOKED") || out == "" {
		t.Errorf("exit %d, %d bytes", code, len(out))
	}
}

package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v4"

	"github.com/tocsin-io/tocsin/internal/config"
)

// exposed returns the metrics that a process with every part has, by name, with
// their labels: also those that have no sample yet, which /metrics leaves out.
func exposed(t *testing.T) map[string][]string {
	t.Helper()
	for name, value := range map[string]string{
		config.EnvKafkaBrokers: "", config.EnvClickHouseURL: "",
		"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	replay := write(t, "replay.jsonl", "")
	cfg, err := config.LoadFile(write(t, "tocsin.yaml", `
kafka: {topics: {partitions: 1}}
ingest:
  firehose: {listen: "127.0.0.1:0"}
  kinesis: [{stream: none, region: eu-west-1, endpoint: "http://`+freeAddress(t)+`"}]
  file: {paths: [`+replay+`]}
registry: {aws: {enabled: true, region: eu-west-1, endpoint: "http://`+freeAddress(t)+`"}}
decisions: {enabled: true, listen: "127.0.0.1:0"}
sinks:
  webhooks: [{name: none, url: "http://127.0.0.1:1", secrets: ["whsec_bm9uZSBub25lIG5vbmUgbm9uZSBub25l"], allow_private: true}]
  awsiot: [{name: none, account: "123456789012", region: eu-west-1, bindings: [{rules: ["level>=high"], actions: [disconnect]}]}]
embedded: {dir: `+t.TempDir()+`}
admin: {listen: ""}
log: {level: error}
shutdown_timeout: 5s
`))
	if err != nil {
		t.Fatal(err)
	}
	a, err := newApp(streams{out: io.Discard, err: io.Discard}, cfg, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = startStages(ctx, a, stages{ingest: true, correlate: true, registry: true, sinks: allSinks(cfg)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.stop() }) // Kinesis cannot be reached, which is not what this is about
	// The metrics of a consumer group are there once it reads.
	eventually(t, "the correlator does not join", func() error { return a.checks.Err(ctx) })

	described := make(chan *prometheus.Desc, 16)
	go func() {
		a.metrics.Describe(described)
		close(described)
	}()
	// Desc shows what it holds in this form only.
	form := regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: .*, constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	metrics := map[string][]string{}
	for desc := range described {
		m := form.FindStringSubmatch(desc.String())
		if m == nil {
			t.Fatalf("a descriptor in an unknown form: %s", desc)
		}
		var labels []string
		for constant := range strings.SplitSeq(m[2], ",") {
			name, _, _ := strings.Cut(constant, "=")
			labels = append(labels, name)
		}
		metrics[m[1]] = append(labels, strings.Split(m[3], ",")...)
	}
	return metrics
}

type alertRule struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

var (
	metricName   = regexp.MustCompile(`\btocsin_[a-z_]+`)
	labelMatcher = regexp.MustCompile(`(tocsin_[a-z_]+)\{([a-z_]+)(?:=~|!~|!=|=)`)
	grouping     = regexp.MustCompile(`\bby \(([a-z_, ]+)\)\s*\(`)
	placeholder  = regexp.MustCompile(`\$labels\.([a-z_]+)`)
)

// Alert rules go wrong in silence when a metric or a label is renamed.
func TestAlertRules(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []alertRule
		}
	}
	if err := yaml.Load(b, &file, yaml.WithKnownFields()); err != nil {
		t.Fatal(err)
	}
	metrics := exposed(t)
	seen := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if g.Name == "" || r.Alert == "" || seen[r.Alert] {
				t.Errorf("group %q, alert %q: no name, or one that is there already", g.Name, r.Alert)
			}
			seen[r.Alert] = true
			if s := r.Labels["severity"]; s != "page" && s != "ticket" {
				t.Errorf("%s: severity %q", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || !strings.Contains(strings.ToLower(r.Annotations["description"]), "next") {
				t.Errorf("%s: no summary, or a description that does not say what to do next", r.Alert)
			}
			kept := checkExpr(t, r.Alert, r.Expr, metrics)
			for _, text := range r.Annotations {
				for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
					if !slices.Contains(kept, m[1]) {
						t.Errorf("%s: the text names the label %s, which the result has not", r.Alert, m[1])
					}
				}
				// Metrics that the text sends people to exist as well.
				for _, name := range metricName.FindAllString(text, -1) {
					if _, ok := metrics[base(name, metrics)]; !ok {
						t.Errorf("%s: the text names %s, which is not a metric of the program", r.Alert, name)
					}
				}
			}
		}
	}
	for _, about := range []string{
		"TocsinSourceSilent", "TocsinConsumerLagGrowing", "TocsinSinkDown", "TocsinDeadLetters", "TocsinEvictions",
		"TocsinLateEvents", "TocsinPartitionWorkerFails", "TocsinNoSnapshots", "TocsinEmbeddedEngineRestarts",
		"TocsinSnapshotsFail", "TocsinEvidenceMissing", "TocsinRegistryNotSynced",
	} {
		if !seen[about] {
			t.Errorf("no alert %s", about)
		}
	}
}

// checkExpr holds an expression against the program's metrics and returns the
// labels that its result has.
func checkExpr(t *testing.T, where, expr string, metrics map[string][]string) []string {
	t.Helper()
	if strings.Count(expr, "(") != strings.Count(expr, ")") || strings.Count(expr, "{") != strings.Count(expr, "}") {
		t.Errorf("%s: unbalanced: %s", where, expr)
	}
	names := metricName.FindAllString(expr, -1)
	if len(names) == 0 {
		t.Errorf("%s: no metric of Tocsin's in %s", where, expr)
	}
	known := []string{"instance", "job", "le"} // what Prometheus adds to every sample, and to buckets
	for _, name := range names {
		labels, ok := metrics[base(name, metrics)]
		if !ok {
			t.Errorf("%s: %s is not a metric of the program", where, name)
		}
		known = append(known, labels...)
	}
	for _, m := range labelMatcher.FindAllStringSubmatch(expr, -1) {
		if !slices.Contains(metrics[base(m[1], metrics)], m[2]) {
			t.Errorf("%s: %s has no label %s", where, m[1], m[2])
		}
	}
	kept := known
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		kept = strings.Split(strings.ReplaceAll(m[1], " ", ""), ",")
		for _, label := range kept {
			if !slices.Contains(known, label) {
				t.Errorf("%s: grouped by %s, which none of its metrics has", where, label)
			}
		}
	}
	return kept
}

// The panels of Prometheus's dashboards, too, go wrong in silence.
func TestDashboardExpressions(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "deploy", "grafana", "dashboards", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	metrics := exposed(t)
	legend := regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
	expressions := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr, LegendFormat string }
			}
		}
		if err := json.Unmarshal(b, &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range board.Panels {
			for _, q := range p.Targets {
				if q.Expr == "" {
					continue // ClickHouse's
				}
				expressions++
				kept := checkExpr(t, p.Title, q.Expr, metrics)
				for _, m := range legend.FindAllStringSubmatch(q.LegendFormat, -1) {
					if !slices.Contains(kept, m[1]) {
						t.Errorf("%s: the legend names the label %s, which the result has not", p.Title, m[1])
					}
				}
			}
		}
	}
	if expressions == 0 {
		t.Error("no dashboard asks Prometheus")
	}
}

// base returns the metric that a sample's name belongs to: histograms have
// samples of other names.
func base(name string, metrics map[string][]string) string {
	for _, suffix := range []string{"_count", "_sum", "_bucket"} {
		if short, ok := strings.CutSuffix(name, suffix); ok {
			if _, known := metrics[short]; known {
				return short
			}
		}
	}
	return name
}

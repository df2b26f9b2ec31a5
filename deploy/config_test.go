package deploy

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/tocsin-io/tocsin/internal/config"
)

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// env returns the variables that .env.example asks for, filled in.
func env(t *testing.T) map[string]string {
	t.Helper()
	values := map[string]string{}
	for line := range strings.Lines(string(read(t, "compose/.env.example"))) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			values[name] = "0123456789abcdef0123456789abcdef"
		}
	}
	return values
}

func TestConfigurations(t *testing.T) {
	values := env(t)
	lookup := func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	for _, file := range []string{"tocsin.yaml", "compose/tocsin.yaml"} {
		if _, err := config.Load(file, read(t, file), lookup); err != nil {
			t.Error(err)
		}
	}
	c, err := config.Load("compose/tocsin.yaml", read(t, "compose/tocsin.yaml"), lookup)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Kafka.Brokers, []string{"kafka:9092"}) || len(c.Ingest.Firehose.AccessKeys) != 1 || c.ClickHouse.Password == "" {
		t.Errorf("%v, %d keys", c.Kafka.Brokers, len(c.Ingest.Firehose.AccessKeys))
	}
	// A variable that is forgotten is an error and not an empty key.
	delete(values, "FIREHOSE_ACCESS_KEY")
	if _, err := config.Load("compose/tocsin.yaml", read(t, "compose/tocsin.yaml"), lookup); err == nil || !strings.Contains(err.Error(), "FIREHOSE_ACCESS_KEY") {
		t.Errorf("got %v", err)
	}
}

// What the compose file names is there: files, variables, and services by the
// names that the configuration of Tocsin and of Grafana has.
func TestCompose(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Volumes     []string
			Environment map[string]string
			Build       struct{ Context, Dockerfile string }
		}
		Volumes map[string]any
	}
	b := read(t, "compose/compose.yaml")
	if err := yaml.Load(b, &compose); err != nil {
		t.Fatal(err)
	}
	values := env(t)
	for _, m := range regexp.MustCompile(`\$\{(\w+)`).FindAllStringSubmatch(string(b), -1) {
		if _, ok := values[m[1]]; !ok {
			t.Errorf("%s is not in .env.example", m[1])
		}
	}
	for name, s := range compose.Services {
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(from, ".") {
				if _, ok := compose.Volumes[from]; !ok {
					t.Errorf("%s: no volume %s", name, from)
				}
			} else if _, err := os.Stat(filepath.Join("compose", from)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join("compose", compose.Services["tocsin"].Build.Context, compose.Services["tocsin"].Build.Dockerfile)); err != nil {
		t.Error(err)
	}
	for _, m := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(string(read(t, "compose/tocsin.yaml")), -1) {
		if _, ok := compose.Services["tocsin"].Environment[m[1]]; !ok {
			t.Errorf("compose.yaml does not give %s to tocsin", m[1])
		}
	}

	var provisioning struct {
		Datasources []struct {
			Type     string
			URL      string
			JSONData struct{ Host string } `yaml:"jsonData"`
			Secure   map[string]string     `yaml:"secureJsonData"`
		}
	}
	if err := yaml.Load(read(t, "grafana/provisioning/datasources/clickhouse.yaml"), &provisioning); err != nil {
		t.Fatal(err)
	}
	if len(provisioning.Datasources) != 1 {
		t.Fatalf("got %+v", provisioning)
	}
	source := provisioning.Datasources[0]
	if _, ok := compose.Services[source.JSONData.Host]; !ok || source.Type != clickhouseType {
		t.Errorf("got %+v", source)
	}
	for _, v := range source.Secure {
		if _, ok := compose.Services["grafana"].Environment[strings.Trim(v, "${}")]; !ok {
			t.Errorf("compose.yaml does not give %s to grafana", v)
		}
	}
	provisioning.Datasources = nil
	if err := yaml.Load(read(t, "grafana/provisioning/datasources/prometheus.yaml"), &provisioning); err != nil {
		t.Fatal(err)
	}
	if len(provisioning.Datasources) != 1 {
		t.Fatalf("got %+v", provisioning)
	}
	source = provisioning.Datasources[0]
	u, err := url.Parse(source.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := compose.Services[u.Hostname()]; !ok || source.Type != prometheusType {
		t.Errorf("got %+v", source)
	}
	var scraped struct {
		RuleFiles []string `yaml:"rule_files"`
		Scrape    []struct {
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Load(read(t, "prometheus/prometheus.yml"), &scraped); err != nil {
		t.Fatal(err)
	}
	for _, file := range scraped.RuleFiles {
		if _, err := os.Stat(filepath.Join("prometheus", filepath.Base(file))); err != nil {
			t.Error(err)
		}
	}
	for _, job := range scraped.Scrape {
		for _, static := range job.Static {
			for _, target := range static.Targets {
				host, _, _ := strings.Cut(target, ":")
				if _, ok := compose.Services[host]; !ok {
					t.Errorf("prometheus.yml scrapes %s, which compose.yaml does not run", target)
				}
			}
		}
	}
	var dashboards struct {
		Providers []struct {
			Options struct{ Path string }
		}
	}
	if err := yaml.Load(read(t, "grafana/provisioning/dashboards/tocsin.yaml"), &dashboards); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboards.Providers {
		if !slices.ContainsFunc(compose.Services["grafana"].Volumes, func(v string) bool { return strings.Contains(v, ":"+p.Options.Path) }) {
			t.Errorf("nothing is mounted at %s", p.Options.Path)
		}
	}
}

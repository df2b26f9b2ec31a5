package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Registry keeps one record for every certificate and CA: what the logs, AWS IoT,
// revocation lists and imports say.
type Registry struct {
	Enabled         bool        `yaml:"enabled"`
	GroupID         string      `yaml:"group_id"`
	ExpiryDays      []int       `yaml:"expiry_days"` // before expiry, when it is told
	AgeDays         int         `yaml:"age_days"`    // from which a certificate is told to be old; 0: never
	CheckInterval   Duration    `yaml:"check_interval"`
	ForgetAfter     Duration    `yaml:"forget_after"` // of certificates that are not registered and not seen
	MaxCertificates int         `yaml:"max_certificates"`
	MaxRevoked      int         `yaml:"max_revoked"` // serial numbers
	CAFiles         []string    `yaml:"ca_files"`    // PEM; of CAs that AWS IoT does not have
	AWS             RegistryAWS `yaml:"aws"`
	Revocations     Revocations `yaml:"revocations"`
}

// RegistryAWS is the inventory of AWS IoT in one account and region.
type RegistryAWS struct {
	Enabled     bool               `yaml:"enabled"`
	Region      string             `yaml:"region"`
	Endpoint    string             `yaml:"endpoint"` // "" for AWS's
	Account     string             `yaml:"account"`  // in the registry's events; "" for what AWS says
	Interval    Duration           `yaml:"interval"` // from one listing to the next
	QuotaShare  float64            `yaml:"quota_share"`
	Quotas      map[string]float64 `yaml:"quotas"` // calls per second by operation, where they are not AWS's defaults
	Concurrency int                `yaml:"concurrency"`
}

// Revocations is where CAs say what they have revoked.
type Revocations struct {
	Interval  Duration   `yaml:"interval"`
	CRLs      []Document `yaml:"crls"`
	Reports   []Document `yaml:"reports"`    // audit reports of AWS Private CA
	PCARegion string     `yaml:"pca_region"` // of the CAs that reports are of
	Export    CRLExport  `yaml:"export"`
	// EnforceSink is the awsiot sink that revokes at the broker what a CA has
	// revoked; "" to report only.
	EnforceSink string `yaml:"enforce_sink"`
}

// Document is where lists or reports are: one of Path, URL and S3.
type Document struct {
	Path         string `yaml:"path"`          // file, directory or pattern
	URL          string `yaml:"url"`           // http(s)://
	S3           string `yaml:"s3"`            // s3://bucket/prefix
	Region       string `yaml:"region"`        // of the bucket
	Endpoint     string `yaml:"endpoint"`      // of S3; "" for AWS's
	AllowPrivate bool   `yaml:"allow_private"` // URL: addresses of private networks, too
	MaxSize      Size   `yaml:"max_size"`
}

// UnmarshalYAML reads a document over its defaults.
func (d *Document) UnmarshalYAML(n *yaml.Node) error {
	type plain Document
	*d = Document{MaxSize: 256 << 20}
	return n.Load((*plain)(d))
}

// Bucket returns the bucket and prefix that S3 names.
func (d *Document) Bucket() (bucket, prefix string, ok bool) {
	rest, ok := strings.CutPrefix(d.S3, "s3://")
	bucket, prefix, _ = strings.Cut(rest, "/")
	return bucket, prefix, ok && bucket != ""
}

// CRLExport is a file with all verified lists, for TLS servers.
type CRLExport struct {
	Path    string `yaml:"path"`     // "" for none
	PIDFile string `yaml:"pid_file"` // of the server that gets SIGHUP
}

// RegistryQuotas are the operations that registry.aws.quotas may name.
var RegistryQuotas = []string{
	"ListCertificates", "DescribeCertificate", "ListCACertificates", "DescribeCACertificate", "ListCertificatesByCA", "ListPrincipalThings",
}

func defaultRegistry() Registry {
	return Registry{
		Enabled:         true,
		GroupID:         "tocsin-registry",
		ExpiryDays:      []int{90, 30, 14, 7, 1},
		CheckInterval:   Duration(10 * time.Minute),
		ForgetAfter:     Duration(90 * 24 * time.Hour),
		MaxCertificates: 20_000_000,
		MaxRevoked:      10_000_000,
		AWS:             RegistryAWS{Interval: Duration(time.Hour), QuotaShare: 0.5, Concurrency: 4},
		Revocations:     Revocations{Interval: Duration(15 * time.Minute)},
	}
}

func (v *validator) registry(c *Config) {
	r := &c.Registry
	if !r.Enabled {
		return
	}
	if r.GroupID == "" {
		v.bad("registry.group_id", "must not be empty")
	}
	for i, d := range r.ExpiryDays {
		between(v, fmt.Sprintf("registry.expiry_days[%d]", i), d, 1, 10_000)
	}
	between(v, "registry.age_days", r.AgeDays, 0, 36_500)
	between(v, "registry.check_interval", r.CheckInterval, Duration(time.Second), Duration(24*time.Hour))
	between(v, "registry.forget_after", r.ForgetAfter, Duration(24*time.Hour), Duration(3650*24*time.Hour))
	between(v, "registry.max_certificates", r.MaxCertificates, 1000, 100_000_000)
	between(v, "registry.max_revoked", r.MaxRevoked, 1000, 100_000_000)
	for i, path := range r.CAFiles {
		if path == "" {
			v.bad(fmt.Sprintf("registry.ca_files[%d]", i), "a PEM file is needed")
		}
	}
	v.registryAWS(&r.AWS)
	v.revocations(c)
}

func (v *validator) registryAWS(a *RegistryAWS) {
	if a.Endpoint != "" {
		v.httpURL("registry.aws.endpoint", a.Endpoint)
	}
	between(v, "registry.aws.interval", a.Interval, Duration(time.Minute), Duration(7*24*time.Hour))
	if !(a.QuotaShare > 0 && a.QuotaShare <= 1) {
		v.bad("registry.aws.quota_share", "is %v; want more than 0, up to 1", a.QuotaShare)
	}
	for op, q := range a.Quotas {
		if !slices.Contains(RegistryQuotas, op) {
			v.bad("registry.aws.quotas", "%q is not one of %s", op, strings.Join(RegistryQuotas, ", "))
		} else if !(q > 0 && q <= 10_000) {
			v.bad("registry.aws.quotas."+op, "is %v; want calls per second, up to 10000", q)
		}
	}
	between(v, "registry.aws.concurrency", a.Concurrency, 1, 256)
}

func (v *validator) revocations(c *Config) {
	r := &c.Registry.Revocations
	const path = "registry.revocations"
	between(v, path+".interval", r.Interval, Duration(10*time.Second), Duration(24*time.Hour))
	for i := range r.CRLs {
		v.document(fmt.Sprintf("%s.crls[%d]", path, i), &r.CRLs[i])
	}
	for i := range r.Reports {
		v.document(fmt.Sprintf("%s.reports[%d]", path, i), &r.Reports[i])
	}
	if r.Export.PIDFile != "" && r.Export.Path == "" {
		v.bad(path+".export.pid_file", "there is no file to tell the server of; set path")
	}
	if r.EnforceSink != "" && !slices.ContainsFunc(c.Sinks.AWSIoT, func(s AWSIoT) bool { return s.Name == r.EnforceSink }) {
		v.bad(path+".enforce_sink", "%q is not the name of one of sinks.awsiot", r.EnforceSink)
	}
}

func (v *validator) document(path string, d *Document) {
	given := 0
	for _, s := range []string{d.Path, d.URL, d.S3} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		v.bad(path, "want one of path, url and s3")
		return
	}
	if d.URL != "" {
		v.httpURL(path+".url", d.URL)
	}
	if _, _, ok := d.Bucket(); d.S3 != "" && !ok {
		v.bad(path+".s3", "%q: want s3://bucket/prefix", d.S3)
	}
	if d.Endpoint != "" {
		v.httpURL(path+".endpoint", d.Endpoint)
	}
	between(v, path+".max_size", d.MaxSize, 1<<10, 4<<30)
}

package config

import (
	"fmt"
	"time"

	"go.yaml.in/yaml/v4"
)

// AWSIoT responds to detections in AWS IoT, in one account and region.
type AWSIoT struct {
	Name         string `yaml:"name"`    // in tocsin.actions, metrics and the consumer group's name
	Account      string `yaml:"account"` // 12 digits
	Region       string `yaml:"region"`
	Endpoint     string `yaml:"endpoint"`      // of the control plane; "" for AWS's
	DataEndpoint string `yaml:"data_endpoint"` // likewise of the data plane
	// DryRun decides, limits and records everything, and calls nothing.
	DryRun            bool               `yaml:"dry_run"`
	Bindings          []ActionBinding    `yaml:"bindings"`
	QuarantineGroup   string             `yaml:"quarantine_group"`
	PreventWill       bool               `yaml:"prevent_will"`
	Rotation          Rotation           `yaml:"rotation"`
	AllowList         []string           `yaml:"allow_list"`
	FleetSize         int                `yaml:"fleet_size"`         // 0: the active certificates that are known
	MaxSharePerHour   float64            `yaml:"max_share_per_hour"` // percent of the fleet
	MinPerHour        int                `yaml:"min_per_hour"`       // devices, however small the fleet
	Breaker           Breaker            `yaml:"breaker"`
	Approval          Approval           `yaml:"approval"`
	MaxAge            Duration           `yaml:"max_age"` // of a detection
	MergeWithin       Duration           `yaml:"merge_within"`
	GiveUpAfter       Duration           `yaml:"give_up_after"`
	RequestsPerSecond map[string]float64 `yaml:"requests_per_second"` // by operation; default half of AWS's quotas
}

// ActionBinding says which detections lead to which actions.
type ActionBinding struct {
	Rules   []string `yaml:"rules"`
	Actions []string `yaml:"actions"`
}

// Rotation is the job by which a device changes its certificate.
type Rotation struct {
	Document       string   `yaml:"document"`
	DocumentSource string   `yaml:"document_source"`
	TemplateARN    string   `yaml:"template_arn"`
	JobIDPrefix    string   `yaml:"job_id_prefix"`
	Timeout        Duration `yaml:"timeout"`
}

// Breaker is what happens when more of the fleet would be touched than may be.
type Breaker struct {
	Cooldown Duration `yaml:"cooldown"` // 0: until a person resumes it
	Trial    int      `yaml:"trial"`    // devices, after the cool-down
}

// Approval is whether a person must agree to an action.
type Approval struct {
	Required bool     `yaml:"required"`
	Expires  Duration `yaml:"expires"`
}

// UnmarshalYAML reads a sink over its defaults.
func (a *AWSIoT) UnmarshalYAML(n *yaml.Node) error {
	type plain AWSIoT
	*a = AWSIoT{
		DryRun:          true,
		Rotation:        Rotation{JobIDPrefix: "tocsin-rotate-", Timeout: Duration(7 * 24 * time.Hour)},
		MaxSharePerHour: 1,
		MinPerHour:      5,
		Breaker:         Breaker{Trial: 1},
		Approval:        Approval{Expires: Duration(24 * time.Hour)},
		MaxAge:          Duration(24 * time.Hour),
		MergeWithin:     Duration(10 * time.Minute),
		GiveUpAfter:     Duration(time.Hour),
	}
	return n.Load((*plain)(a))
}

func (v *validator) awsIoT(sinks []AWSIoT) {
	names := map[string]int{}
	acting := map[string]int{} // by account and region
	for i := range sinks {
		a, path := &sinks[i], fmt.Sprintf("sinks.awsiot[%d]", i)
		if !isIdentifier(a.Name) {
			v.bad(path+".name", "%q: want letters, digits, - and _, beginning with a letter; it names actions, metrics and the consumer group", a.Name)
		} else if first, ok := names[a.Name]; ok {
			v.bad(path+".name", "%q is the name of sinks.awsiot[%d] already", a.Name, first)
		}
		names[a.Name] = i
		if !a.DryRun {
			fleet := a.Account + " " + a.Region
			if first, ok := acting[fleet]; ok {
				v.bad(path+".dry_run", "sinks.awsiot[%d] acts in the same account and region already; two would each count a share of the fleet", first)
			}
			acting[fleet] = i
		}
		for key, endpoint := range map[string]string{"endpoint": a.Endpoint, "data_endpoint": a.DataEndpoint} {
			if endpoint != "" {
				v.httpURL(path+"."+key, endpoint)
			}
		}
		if !(a.MaxSharePerHour > 0 && a.MaxSharePerHour <= 100) {
			v.bad(path+".max_share_per_hour", "is %v; want a percentage of the fleet, above 0 and at most 100", a.MaxSharePerHour)
		}
		between(v, path+".fleet_size", a.FleetSize, 0, 1_000_000_000)
		between(v, path+".min_per_hour", a.MinPerHour, 0, 1_000_000)
		between(v, path+".breaker.cooldown", a.Breaker.Cooldown, 0, Duration(30*24*time.Hour))
		between(v, path+".breaker.trial", a.Breaker.Trial, 1, 1_000_000)
		between(v, path+".approval.expires", a.Approval.Expires, Duration(time.Minute), Duration(30*24*time.Hour))
		between(v, path+".rotation.timeout", a.Rotation.Timeout, Duration(time.Minute), Duration(90*24*time.Hour))
		between(v, path+".max_age", a.MaxAge, Duration(time.Minute), Duration(30*24*time.Hour))
		between(v, path+".merge_within", a.MergeWithin, Duration(time.Second), Duration(30*24*time.Hour))
		between(v, path+".give_up_after", a.GiveUpAfter, Duration(time.Minute), Duration(24*time.Hour))
	}
}

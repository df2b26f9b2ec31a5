package awsiot

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/internal/blastradius"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
)

// Kinds are the actions that a binding may name, in the order in which they are
// asked for: a connection is closed after the certificate was taken away, or the
// device is back at once.
var Kinds = []string{
	schemas.KindRevoke, schemas.KindDeactivate, schemas.KindQuarantine, schemas.KindRotate, schemas.KindDisconnect,
}

// Binding says which detections lead to which actions.
type Binding struct {
	// Rules are expressions, see ParseExpression; one must be true.
	Rules []string
	// Actions are of Kinds.
	Actions []string
}

// Rotation is how a device is made to change its certificate.
type Rotation struct {
	// Document of the job (JSON), or DocumentSource, its URL in S3, or TemplateARN
	// of a job template.
	Document, DocumentSource, TemplateARN string
	// JobIDPrefix is before the action's ID in the job's. Default "tocsin-rotate-".
	JobIDPrefix string
	// Timeout is how long the new certificate may take to be seen. Default 7 d.
	Timeout time.Duration
}

// Approval is whether a person must agree.
type Approval struct {
	Required bool
	// Expires is how long an action waits for it. Default 24 h.
	Expires time.Duration
}

// Options of a Sink. Name, Account, Region, Bindings, Kafka, Producer, Metrics and
// Status are needed, and Control and Connections unless DryRun.
type Options struct {
	// Name of the sink: in records, metrics and the consumer group's name.
	Name string
	// Account and Region whose devices it acts on. A detection in another account
	// or region is refused.
	Account, Region string
	// Control is AWS IoT's control plane, Connections its data plane.
	Control     *iot.Client
	Connections *Connections
	// DryRun decides and records everything, and calls nothing.
	DryRun   bool
	Bindings []Binding
	// QuarantineGroup is the thing group of the action quarantine. What it denies is
	// in the policy that is attached to it.
	QuarantineGroup string
	// PreventWill keeps the last will of a client that is disconnected from being
	// published.
	PreventWill bool
	Rotation    Rotation
	// AllowList are the clients, things and certificates that are never touched:
	// names in which * stands for anything, with "client:", "thing:" or
	// "certificate:" in front to mean only these.
	AllowList []string
	// FleetSize is the number of devices; 0: the active certificates in
	// tocsin.identities.
	FleetSize int
	Limits    blastradius.Options
	Approval  Approval
	// Rates are the calls per second of each operation, by AWS's name. Default: half
	// of AWS's default quotas.
	Rates map[string]float64
	// MaxAge is how old a detection may be to be acted on. Default 24 h.
	MaxAge time.Duration
	// MergeWithin is how long after an action the same is not done to the same
	// target again for another detection. Default 10 min.
	MergeWithin time.Duration
	// GiveUpAfter is how long a call is tried. Default 1 h.
	GiveUpAfter time.Duration
	// Backoff between attempts. Default 1 s, doubling up to 1 min.
	Backoff sinks.Backoff

	Kafka    *kafka.Client
	Producer actionlog.Producer
	Metrics  *Metrics
	Status   *sinks.Status
	Logger   *zap.Logger
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Operations of AWS IoT that are called, with the calls per second of each: half of
// the default quotas of an account and region.
// https://docs.aws.amazon.com/general/latest/gr/iot-core.html
var Operations = map[string]float64{
	opUpdateCertificate:    5,
	opDescribeCertificate:  5,
	opListPrincipalThings:  5,
	opAddThingToThingGroup: 30, // of 60, in the smaller regions
	opCreateJob:            5,
	opDeleteConnection:     50,
}

// AWS's names of the operations.
const (
	opUpdateCertificate    = "UpdateCertificate"
	opDescribeCertificate  = "DescribeCertificate"
	opListPrincipalThings  = "ListPrincipalThings"
	opAddThingToThingGroup = "AddThingToThingGroup"
	opCreateJob            = "CreateJob"
	opDeleteConnection     = "DeleteConnection"
)

func (o Options) withDefaults() Options {
	setDefault := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	setDefault(&o.Rotation.Timeout, 7*24*time.Hour)
	setDefault(&o.Approval.Expires, 24*time.Hour)
	setDefault(&o.MaxAge, 24*time.Hour)
	setDefault(&o.MergeWithin, 10*time.Minute)
	setDefault(&o.GiveUpAfter, time.Hour)
	setDefault(&o.Backoff.First, time.Second)
	setDefault(&o.Backoff.Max, time.Minute)
	if o.Rotation.JobIDPrefix == "" {
		o.Rotation.JobIDPrefix = "tocsin-rotate-"
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Limits.Now = o.Now
	return o
}

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]+$`)
	groupForm   = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)
	jobForm     = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,32}$`)
)

// Validate returns every problem, each beginning with the key of the
// configuration that it is of.
func (o *Options) Validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !accountForm.MatchString(o.Account) {
		bad("account: %q: want the 12 digits of the AWS account", o.Account)
	}
	if !regionForm.MatchString(o.Region) {
		bad("region: %q: want an AWS region like eu-west-1", o.Region)
	}
	if len(o.Bindings) == 0 {
		bad("bindings: at least one is needed; without one nothing is ever done")
	}
	uses := func(kind string) bool {
		return slices.ContainsFunc(o.Bindings, func(b Binding) bool { return slices.Contains(b.Actions, kind) })
	}
	for i, b := range o.Bindings {
		if len(b.Rules) == 0 || len(b.Actions) == 0 {
			bad("bindings[%d]: rules and actions are needed", i)
		}
		for j, r := range b.Rules {
			if _, err := ParseExpression(r); err != nil {
				bad("bindings[%d].rules[%d]: %w", i, j, err)
			}
		}
		for j, a := range b.Actions {
			if !slices.Contains(Kinds, a) {
				bad("bindings[%d].actions[%d]: %q is not one of %s", i, j, a, strings.Join(Kinds, ", "))
			}
		}
	}
	if uses(schemas.KindQuarantine) && !groupForm.MatchString(o.QuarantineGroup) {
		bad("quarantine_group: %q: the action quarantine needs the name of a thing group", o.QuarantineGroup)
	}
	r := &o.Rotation
	documents := 0
	for _, d := range []string{r.Document, r.DocumentSource, r.TemplateARN} {
		if d != "" {
			documents++
		}
	}
	if uses(schemas.KindRotate) && documents != 1 {
		bad("rotation: the action rotate needs one of document, document_source and template_arn")
	}
	if r.JobIDPrefix != "" && !jobForm.MatchString(r.JobIDPrefix) {
		bad("rotation.job_id_prefix: %q: want at most 32 letters, digits, - and _", r.JobIDPrefix)
	}
	for i, p := range o.AllowList {
		if _, err := parsePattern(p); err != nil {
			bad("allow_list[%d]: %w", i, err)
		}
	}
	for op, rate := range o.Rates {
		if _, ok := Operations[op]; !ok {
			bad("rates: %q is not an operation that is called", op)
		} else if rate <= 0 {
			bad("rates.%s: want calls per second above 0", op)
		}
	}
	if o.Limits.MaxShare < 0 || o.Limits.MaxShare > 100 {
		bad("max_share_per_hour: is %v; want a percentage of the fleet", o.Limits.MaxShare)
	}
	return errors.Join(problems...)
}

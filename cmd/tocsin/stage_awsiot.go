package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/tocsin-io/tocsin/internal/blastradius"
	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks"
	"github.com/tocsin-io/tocsin/sinks/awsiot"
)

// sinkAWSIoT is the name of a sink that responds in AWS IoT, before the
// configured one.
const sinkAWSIoT = "awsiot:"

// awsIoTOptions turns a section of the configuration into the sink's options,
// without what it connects to.
func awsIoTOptions(c *config.AWSIoT) awsiot.Options {
	o := awsiot.Options{
		Name: c.Name, Account: c.Account, Region: c.Region, DryRun: c.DryRun,
		QuarantineGroup: c.QuarantineGroup, PreventWill: c.PreventWill,
		Rotation: awsiot.Rotation{
			Document: c.Rotation.Document, DocumentSource: c.Rotation.DocumentSource, TemplateARN: c.Rotation.TemplateARN,
			JobIDPrefix: c.Rotation.JobIDPrefix, Timeout: c.Rotation.Timeout.Std(),
		},
		AllowList: c.AllowList, FleetSize: c.FleetSize,
		Limits: blastradius.Options{
			MaxShare: c.MaxSharePerHour, Least: c.MinPerHour, Cooldown: c.Breaker.Cooldown.Std(), Trial: c.Breaker.Trial,
		},
		Approval: awsiot.Approval{Required: c.Approval.Required, Expires: c.Approval.Expires.Std()},
		Rates:    c.RequestsPerSecond,
		MaxAge:   c.MaxAge.Std(), MergeWithin: c.MergeWithin.Std(), GiveUpAfter: c.GiveUpAfter.Std(),
	}
	if c.MinPerHour == 0 {
		o.Limits.Least = -1 // for which 0 is the default
	}
	for _, b := range c.Bindings {
		o.Bindings = append(o.Bindings, awsiot.Binding{Rules: b.Rules, Actions: b.Actions})
	}
	return o
}

// checkAWSIoT returns what is wrong with the sinks that respond in AWS IoT, each
// with its path in the configuration.
func checkAWSIoT(sinks []config.AWSIoT) (problems []finding) {
	for i := range sinks {
		o := awsIoTOptions(&sinks[i])
		err := o.Validate()
		var all interface{ Unwrap() []error }
		if errors.As(err, &all) {
			for _, e := range all.Unwrap() {
				problems = append(problems, finding{Severity: "error", Path: fmt.Sprintf("sinks.awsiot[%d]", i), Message: e.Error()})
			}
		}
	}
	return problems
}

// awsConfig is that of AWS's default chain for a region. The attempts are counted
// by those who call.
func awsConfig(ctx context.Context, region string) (aws.Config, error) {
	return awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(region), awsconfig.WithRetryMaxAttempts(1))
}

func (s *sinkStarter) startAWSIoT(ctx context.Context, name string) error {
	var c *config.AWSIoT
	for i := range s.cfg.Sinks.AWSIoT {
		if s.cfg.Sinks.AWSIoT[i].Name == name {
			c = &s.cfg.Sinks.AWSIoT[i]
		}
	}
	if c == nil {
		return errors.New("no sinks.awsiot of this name in the configuration")
	}
	component := "awsiot-" + name
	status := sinks.NewStatus(component, s.metrics, s.log)
	o := awsIoTOptions(c)
	o.Kafka, o.Producer = s.client, s.producer
	o.Metrics, o.Status, o.Logger = awsiot.NewMetrics(s.app.metrics), status, s.log.Named(component)
	if !c.DryRun {
		cfg, err := awsConfig(ctx, c.Region)
		if err != nil {
			return fmt.Errorf("AWS configuration: %w", err)
		}
		o.Control = iot.NewFromConfig(cfg, func(o *iot.Options) {
			if c.Endpoint != "" {
				o.BaseEndpoint = aws.String(c.Endpoint)
			}
		})
		if o.Connections, err = awsiot.NewConnections(&cfg, c.DataEndpoint); err != nil {
			return &exitError{code: exitConfig, err: err}
		}
	}
	if err := o.Validate(); err != nil {
		return &exitError{code: exitConfig, err: err, try: "tocsin validate"}
	}
	sink, err := awsiot.New(ctx, o)
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	close(ready)
	s.run(sink, component, schemas.TopicDetections, "tocsin-"+component, sink.Err, ready)
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/tocsin-io/tocsin/correlate/identity"
	"github.com/tocsin-io/tocsin/correlate/identity/crl"
	"github.com/tocsin-io/tocsin/correlate/identity/enforce"
	"github.com/tocsin-io/tocsin/correlate/identity/inventory"
	"github.com/tocsin-io/tocsin/correlate/identity/pcareport"
	"github.com/tocsin-io/tocsin/correlate/identity/revocation"
	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/internal/config"
	"github.com/tocsin-io/tocsin/internal/documents"
	"github.com/tocsin-io/tocsin/schemas"
)

// startRegistry starts an instance of the registry, which stands by until it is
// its turn.
func (p *plant) startRegistry(ctx context.Context) error {
	c := &p.cfg.Registry
	opts := identity.Options{
		Client: p.client, Producer: p.producer, GroupID: c.GroupID,
		Account: c.AWS.Account, Region: c.AWS.Region,
		ExpiryDays: c.ExpiryDays, AgeDays: c.AgeDays, CheckInterval: c.CheckInterval.Std(), ForgetAfter: c.ForgetAfter.Std(),
		MaxCertificates: c.MaxCertificates, MaxRevoked: c.MaxRevoked, SourceInterval: c.Revocations.Interval.Std(),
		Logger: p.log.Named("registry"), Registerer: p.metrics,
	}
	for _, path := range c.CAFiles {
		doc, err := os.ReadFile(path)
		if err != nil {
			return &exitError{code: exitConfig, err: fmt.Errorf("registry.ca_files: %w", err)}
		}
		opts.CAs = append(opts.CAs, string(doc))
	}
	var err error
	if c.AWS.Enabled {
		if opts.Inventory, err = p.openInventory(ctx, &c.AWS); err != nil {
			return err
		}
	}
	if len(c.Revocations.Reports) > 0 {
		if opts.PrivateCAKeyID, err = privateCAKeyIDs(ctx, &c.Revocations); err != nil {
			return err
		}
	}
	if opts.Sources, err = p.revocationSources(ctx, &c.Revocations, opts.PrivateCAKeyID); err != nil {
		return err
	}
	if opts.Enforcer, err = p.openEnforcer(ctx, &c.Revocations); err != nil {
		return err
	}
	service := identity.New(opts)
	p.registry.Store(service)
	p.life.Go("registry", true, service.Run)
	p.checks.Add("registry", func(context.Context) error {
		if !service.Joined() {
			return fmt.Errorf("not a member of group %s yet", c.GroupID)
		}
		return nil
	})
	return nil
}

func (p *plant) openInventory(ctx context.Context, c *config.RegistryAWS) (*inventory.Inventory, error) {
	cfg, err := awsConfig(ctx, c.Region)
	if err != nil {
		return nil, fmt.Errorf("registry: AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, &exitError{code: exitConfig, err: errors.New("registry.aws: no AWS region; set registry.aws.region or AWS_REGION")}
	}
	client := iot.NewFromConfig(cfg, func(o *iot.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
	})
	return inventory.New(inventory.Options{
		Client: client, Interval: c.Interval.Std(), Quotas: c.Quotas, Share: c.QuotaShare, Concurrency: c.Concurrency,
		Logger: p.log.Named("inventory"), Registerer: p.metrics,
	}), nil
}

// privateCAKeyIDs returns a function that asks AWS Private CA for the key identifier of
// a CA, by its ARN.
func privateCAKeyIDs(ctx context.Context, c *config.Revocations) (func(ctx context.Context, arn string) (string, error), error) {
	api, err := pcareport.NewClient(ctx, c.PCARegion, "")
	if err != nil {
		return nil, fmt.Errorf("registry: AWS Private CA: %w", err)
	}
	authorities := pcareport.NewAuthorities(api)
	return func(ctx context.Context, arn string) (string, error) {
		cert, err := authorities.Certificate(ctx, arn)
		if err != nil {
			return "", err
		}
		return crl.KeyID(cert), nil
	}, nil
}

// revocationSources opens the lists and reports of the configuration.
func (p *plant) revocationSources(ctx context.Context, c *config.Revocations, keyID func(ctx context.Context, arn string) (string, error)) (sources []revocation.Source, err error) {
	log := p.log.Named("revocations")
	metrics := crl.NewMetrics(p.metrics)
	if len(c.CRLs) > 0 {
		lists := &revocation.Lists{Metrics: metrics, Logger: log}
		if c.Export.Path != "" {
			lists.Exporter = &crl.Exporter{Path: c.Export.Path, PIDFile: c.Export.PIDFile, Metrics: metrics}
		}
		if lists.Places, err = openPlaces(ctx, c.CRLs, crl.Suffixes); err != nil {
			return nil, err
		}
		sources = append(sources, lists)
	}
	if len(c.Reports) > 0 {
		reports := &revocation.Reports{Logger: log, KeyID: keyID}
		if reports.Places, err = openPlaces(ctx, c.Reports, pcareport.Suffixes); err != nil {
			return nil, err
		}
		sources = append(sources, reports)
	}
	return sources, nil
}

func openPlaces(ctx context.Context, docs []config.Document, suffixes []string) (places []documents.Place, err error) {
	for i := range docs {
		d := &docs[i]
		bucket, prefix, inS3 := d.Bucket()
		switch {
		case inS3:
			client, err := documents.NewS3Client(ctx, d.Region, d.Endpoint)
			if err != nil {
				return nil, fmt.Errorf("registry: %s: %w", d.S3, err)
			}
			places = append(places, &documents.S3{Client: client, Bucket: bucket, Prefix: prefix, Suffixes: suffixes, Limit: int64(d.MaxSize)})
		case d.URL != "":
			place, err := documents.NewHTTP(d.URL, documents.HTTPOptions{Limit: int64(d.MaxSize), AllowPrivate: d.AllowPrivate})
			if err != nil {
				return nil, &exitError{code: exitConfig, err: fmt.Errorf("registry.revocations: %w", err)}
			}
			places = append(places, place)
		default:
			places = append(places, &documents.Files{Path: d.Path, Suffixes: suffixes, Limit: int64(d.MaxSize)})
		}
	}
	return places, nil
}

// openEnforcer returns what asks for revocations at the broker, and counts what
// there would be to ask for when there is nobody to be asked.
func (p *plant) openEnforcer(ctx context.Context, c *config.Revocations) (*enforce.Enforcer, error) {
	opts := enforce.Options{Sink: c.EnforceSink, Interval: c.Interval.Std(), Logger: p.log.Named("enforce"), Registerer: p.metrics}
	if c.EnforceSink != "" {
		partitions, err := p.client.Partitions(ctx, schemas.TopicActions)
		if err != nil {
			return nil, err
		}
		opts.Log = actionlog.New(p.producer, partitions)
	}
	return enforce.New(opts), nil
}

package inventory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/correlate/identity/certificate"
	"github.com/tocsin-io/tocsin/internal/backoff"
	"github.com/tocsin-io/tocsin/schemas"
)

// describeAll describes what is in the queue, until ctx ends or the registry
// takes nothing any more.
func (v *Inventory) describeAll(ctx context.Context, reg Registry) error {
	for failures := 0; ; {
		id, ok := v.queue.next(ctx, func(n int, busy func(string) bool) []string {
			return reg.Select(n, func(c *schemas.Certificate) bool {
				unread := c.NotAfter.IsZero() && c.Status != schemas.CertUnknown
				return unread && !busy(c.ID)
			})
		})
		if !ok {
			return nil
		}
		f, err := v.describe(ctx, id)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			v.queue.done(id, failed)
			v.metrics.failed.Inc()
			if failures == 0 {
				v.log.Warn("certificates cannot be described; the next cycle tries again", zap.String("certificate_id", id), zap.Error(err))
				reg.Problem(ctx, err)
			}
			// All may fail alike: the permission is missing, or AWS is away.
			if backoff.Sleep(ctx, backoff.Delay(failures, firstBackoff, maxFailureBackoff)) != nil {
				return nil
			}
			failures++
			continue
		}
		failures = 0
		if err := reg.Merge(ctx, f); err != nil {
			return err
		}
		if f.Unreadable != nil {
			v.metrics.unreadable.Inc()
			v.queue.done(id, unreadable)
			continue
		}
		v.metrics.described.Inc()
		v.queue.done(id, described)
	}
}

const maxFailureBackoff = time.Minute

// describe asks AWS for all of a certificate.
func (v *Inventory) describe(ctx context.Context, id string) (Fact, error) {
	f := Fact{ID: id, Asked: time.Now().UTC()}
	var out *iot.DescribeCertificateOutput
	err := v.calls.do(ctx, opDescribeCertificate, func(ctx context.Context) (err error) {
		out, err = v.opts.Client.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
		return err
	})
	var gone *types.ResourceNotFoundException
	switch {
	case errors.As(err, &gone):
		f.Gone = true
		return f, nil
	case err != nil:
		return f, err
	case out.CertificateDescription == nil:
		return f, fmt.Errorf("DescribeCertificate of %s answered without a description", id)
	}
	d := out.CertificateDescription
	arn := aws.ToString(d.CertificateArn)
	f.Status, f.CAID, f.Account = status(d.Status), aws.ToString(d.CaCertificateId), account(arn)
	f.Created, f.Modified = aws.ToTime(d.CreationDate).UTC(), aws.ToTime(d.LastModifiedDate).UTC()
	if f.Certificate, err = certificate.ParsePEM(aws.ToString(d.CertificatePem)); err != nil {
		f.Certificate, f.Unreadable = nil, err
	}
	f.Things, f.HasThings = v.things(ctx, arn)
	return f, nil
}

// things returns what a certificate is attached to. That nobody may see it (the
// permission is missing) is no reason to know nothing else.
func (v *Inventory) things(ctx context.Context, arn string) (names []string, ok bool) {
	var out *iot.ListPrincipalThingsOutput
	err := v.calls.do(ctx, opListPrincipalThings, func(ctx context.Context) (err error) {
		out, err = v.opts.Client.ListPrincipalThings(ctx, &iot.ListPrincipalThingsInput{
			Principal: &arn, MaxResults: aws.Int32(schemas.MaxObserved),
		})
		return err
	})
	if err != nil {
		v.log.Debug("the things of a certificate could not be listed", zap.String("certificate", arn), zap.Error(err))
		return nil, false
	}
	return out.Things, true
}

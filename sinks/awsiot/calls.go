package awsiot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"golang.org/x/time/rate"

	"github.com/tocsin-io/tocsin/internal/backoff"
	"github.com/tocsin-io/tocsin/schemas"
)

// attemptTimeout bounds one call.
const attemptTimeout = 15 * time.Second

// caller calls AWS IoT within the rates, until AWS has said yes or no.
type caller struct {
	opts     *Options
	limiters map[string]*rate.Limiter
}

func newCaller(o *Options) *caller {
	c := &caller{opts: o, limiters: make(map[string]*rate.Limiter)}
	for op, r := range Operations {
		if configured, ok := o.Rates[op]; ok {
			r = configured
		}
		// No burst: AWS's bucket may be in use by others.
		c.limiters[op] = rate.NewLimiter(rate.Limit(r), 1)
	}
	return c
}

// refusal is an answer of AWS that trying again does not change.
type refusal struct {
	code string // of the codes of actions
	err  error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// call makes a call until it succeeds, is refused for good (*refusal), or has been
// tried for too long. The error of ctx is returned when it ends before that.
func (c *caller) call(ctx context.Context, op string, attempt func(context.Context) error) error {
	var started time.Time // of the first attempt: the wait for a turn does not count
	for n := 0; ; n++ {
		if err := c.limiters[op].Wait(ctx); err != nil {
			return ctx.Err()
		}
		start := time.Now()
		if n == 0 {
			started = c.opts.Now()
		}
		// A call that has begun is let end: what it did would not be known otherwise.
		actx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
		err := attempt(actx)
		cancel()
		reason, code := classify(err)
		c.opts.Metrics.called(c.opts.Name, op, reason, time.Since(start))
		switch {
		case err == nil:
			c.opts.Status.OK()
			return nil
		case code != "":
			return &refusal{code, fmt.Errorf("%s: %w", op, err)}
		case c.opts.Now().Sub(started) >= c.opts.GiveUpAfter:
			return &refusal{codeGaveUp, fmt.Errorf("%s, tried %d times: %w", op, n+1, err)}
		}
		c.opts.Status.Failed(reason, fmt.Errorf("%s: %w", op, err))
		if err := backoff.Sleep(ctx, c.opts.Backoff.Delay(n)); err != nil {
			return err
		}
	}
}

// Reasons of calls that failed, the labels of metrics. The set is fixed.
const (
	reasonOK         = "ok"
	reasonThrottled  = "throttled"
	reasonServer     = "server"
	reasonNetwork    = "network"
	reasonRefused    = "refused"
	reasonPermission = "permission"
)

// throttles are the codes by which AWS's services say that there are too many
// calls.
var throttles = []string{"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "ThrottledException"}

// classify returns the reason of an error, and the code of the action's end when
// trying again cannot help.
func classify(err error) (reason, code string) {
	if err == nil {
		return reasonOK, ""
	}
	var api smithy.APIError
	var response *smithyhttp.ResponseError
	if !errors.As(err, &api) {
		if errors.As(err, &response) && response.HTTPStatusCode()/100 == 5 {
			return reasonServer, ""
		}
		return reasonNetwork, "" // credentials that cannot be had are of this kind, too
	}
	status := 0
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	switch name := api.ErrorCode(); {
	case slices.Contains(throttles, name) || status == http.StatusTooManyRequests:
		return reasonThrottled, ""
	case name == "ExpiredTokenException" || name == "ExpiredToken" || name == "RequestExpired":
		return reasonNetwork, "" // the next attempt asks for new credentials
	case api.ErrorFault() == smithy.FaultServer || status/100 == 5 || name == "InternalFailureException" || name == "ServiceUnavailableException":
		return reasonServer, ""
	case name == "ResourceNotFoundException":
		return reasonRefused, codeTargetGone
	case name == "AccessDeniedException" || name == "ForbiddenException" || name == "UnauthorizedException" ||
		name == "UnrecognizedClientException" || name == "InvalidSignatureException":
		return reasonPermission, codeNotAllowed
	}
	return reasonRefused, codeAWSRefused
}

// disconnect closes a client's connection, and reports whether there was one.
func (c *caller) disconnect(ctx context.Context, client string) (bool, error) {
	err := c.call(ctx, opDeleteConnection, func(ctx context.Context) error {
		return c.opts.Connections.Delete(ctx, client, c.opts.PreventWill)
	})
	var r *refusal
	if errors.As(err, &r) && r.code == codeTargetGone {
		return false, nil
	}
	return err == nil, err
}

// certificate returns what AWS knows of a certificate.
func (c *caller) certificate(ctx context.Context, id string) (d *types.CertificateDescription, err error) {
	err = c.call(ctx, opDescribeCertificate, func(ctx context.Context) error {
		out, err := c.opts.Control.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
		if err == nil {
			d = out.CertificateDescription
		}
		return err
	})
	return d, err
}

// setStatus changes a certificate's status, and reports whether it had to.
func (c *caller) setStatus(ctx context.Context, id string, to types.CertificateStatus) (bool, error) {
	d, err := c.certificate(ctx, id)
	if err != nil {
		return false, err
	}
	// Not from REVOKED to INACTIVE: that would be less than it is.
	if d.Status == to || d.Status == types.CertificateStatusRevoked {
		return false, nil
	}
	err = c.call(ctx, opUpdateCertificate, func(ctx context.Context) error {
		_, err := c.opts.Control.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &id, NewStatus: to})
		return err
	})
	return err == nil, err
}

// things returns the things that a certificate is attached to.
func (c *caller) things(ctx context.Context, certificate string) (names []string, err error) {
	principal := c.arn("cert/" + certificate)
	var next *string
	for {
		err = c.call(ctx, opListPrincipalThings, func(ctx context.Context) error {
			out, err := c.opts.Control.ListPrincipalThings(ctx, &iot.ListPrincipalThingsInput{Principal: &principal, NextToken: next})
			if err == nil {
				names, next = append(names, out.Things...), out.NextToken
			}
			return err
		})
		if err != nil || aws.ToString(next) == "" || len(names) >= maxThings {
			return names, err
		}
	}
}

// maxThings bounds the things of a certificate that are looked at. A claim
// certificate may have millions.
const maxThings = 1000

func (c *caller) quarantine(ctx context.Context, thing string) error {
	return c.call(ctx, opAddThingToThingGroup, func(ctx context.Context) error {
		_, err := c.opts.Control.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{
			ThingGroupName: &c.opts.QuarantineGroup, ThingName: &thing, OverrideDynamicGroups: true,
		})
		return err
	})
}

// createJob creates the job of a rotation. That it is there already is the answer
// to a call that is repeated after a crash.
func (c *caller) createJob(ctx context.Context, a *schemas.Action) error {
	r := &c.opts.Rotation
	in := &iot.CreateJobInput{
		JobId: &a.JobID, Targets: []string{c.arn("thing/" + a.Thing)}, TargetSelection: types.TargetSelectionSnapshot,
		Description: aws.String("certificate rotation: " + clip(a.Rule, 1000)),
		// AWS counts from when the device takes the job; the deadline of the action is
		// the executor's.
		TimeoutConfig: &types.TimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(min(max(int64(r.Timeout/time.Minute), 1), 10080))},
	}
	switch {
	case r.Document != "":
		in.Document = &r.Document
	case r.DocumentSource != "":
		in.DocumentSource = &r.DocumentSource
	default:
		in.JobTemplateArn = &r.TemplateARN
	}
	err := c.call(ctx, opCreateJob, func(ctx context.Context) error {
		_, err := c.opts.Control.CreateJob(ctx, in)
		var exists *types.ResourceAlreadyExistsException
		if errors.As(err, &exists) {
			return nil
		}
		return err
	})
	return err
}

// replaced reports whether a certificate is one that a rotation, which began at
// since, has brought to a thing: registered after it, active, and attached to it.
// That it was seen with the thing's name is not enough: a name is easily claimed.
func (c *caller) replaced(ctx context.Context, certificate, thing string, since time.Time) (bool, error) {
	d, err := c.certificate(ctx, certificate)
	if err != nil {
		return false, err
	}
	if d.Status != types.CertificateStatusActive || d.CreationDate == nil || d.CreationDate.Before(since) {
		return false, nil
	}
	things, err := c.things(ctx, certificate)
	return slices.Contains(things, thing), err
}

// arn returns the ARN of a resource of AWS IoT.
func (c *caller) arn(resource string) string {
	partition := "aws"
	switch {
	case domain(c.opts.Region) != domain(""):
		partition = "aws-cn"
	case len(c.opts.Region) > 7 && c.opts.Region[:7] == "us-gov-":
		partition = "aws-us-gov"
	}
	return fmt.Sprintf("arn:%s:iot:%s:%s:%s", partition, c.opts.Region, c.opts.Account, resource)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n]
}

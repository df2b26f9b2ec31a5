// Package fakeiot is a fake of the part of AWS IoT's API that an inventory reads,
// for tests: with throttling, markers that expire, and answers that moto cannot
// give.
package fakeiot

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Certificate is one that the fake has.
type Certificate struct {
	ID, PEM  string
	Status   types.CertificateStatus
	Created  time.Time
	Modified time.Time
	CA       string
	Things   []string
}

// API is the fake. Its methods may be called from several goroutines.
type API struct {
	mu        sync.Mutex
	certs     map[string]*Certificate
	order     []string
	cas       map[string]*Certificate
	markers   string
	calls     map[string]int
	described []string
	fail      func(operation, id string) error
	page      int
}

// New returns a fake without certificates that lists page of them in a call.
func New(page int) *API {
	return &API{certs: make(map[string]*Certificate), cas: make(map[string]*Certificate), calls: make(map[string]int), page: page}
}

// Put adds or replaces a certificate.
func (a *API) Put(c Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.certs[c.ID]; !ok {
		a.order = append(a.order, c.ID)
	}
	a.certs[c.ID] = &c
}

// PutCA adds or replaces a CA.
func (a *API) PutCA(c Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cas[c.ID] = &c
}

// Remove deletes a certificate.
func (a *API) Remove(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.certs, id)
	a.order = slices.DeleteFunc(a.order, func(o string) bool { return o == id })
}

// ExpireMarkers makes all markers that were given out invalid.
func (a *API) ExpireMarkers() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.markers += "x"
}

// Fail has calls fail with what f returns; id is that of a certificate, if the
// call is about one.
func (a *API) Fail(f func(operation, id string) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = f
}

// Calls returns how often an operation was called.
func (a *API) Calls(operation string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[operation]
}

// Described returns the IDs that DescribeCertificate was called with, in order.
func (a *API) Described() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.described)
}

// called counts a call, and returns the error that it is to have. mu is held.
func (a *API) called(operation, id string) error {
	a.calls[operation]++
	if a.fail != nil {
		return a.fail(operation, id)
	}
	return nil
}

func arn(id string) *string { return aws.String("arn:aws:iot:eu-west-1:111122223333:cert/" + id) }

// ListCertificates implements inventory.API.
func (a *API) ListCertificates(_ context.Context, in *iot.ListCertificatesInput, _ ...func(*iot.Options)) (*iot.ListCertificatesOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.called("ListCertificates", ""); err != nil {
		return nil, err
	}
	from := 0
	if in.Marker != nil {
		if _, err := fmt.Sscanf(*in.Marker, a.markers+"%d", &from); err != nil {
			return nil, &types.InvalidRequestException{Message: aws.String("marker")}
		}
	}
	out := &iot.ListCertificatesOutput{}
	for _, id := range a.order[min(from, len(a.order)):min(from+a.page, len(a.order))] {
		c := a.certs[id]
		out.Certificates = append(out.Certificates, types.Certificate{
			CertificateId: &c.ID, CertificateArn: arn(c.ID), Status: c.Status, CreationDate: &c.Created,
		})
	}
	if from+a.page < len(a.order) {
		out.NextMarker = aws.String(a.markers + strconv.Itoa(from+a.page))
	}
	return out, nil
}

// DescribeCertificate implements inventory.API.
func (a *API) DescribeCertificate(_ context.Context, in *iot.DescribeCertificateInput, _ ...func(*iot.Options)) (*iot.DescribeCertificateOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.called("DescribeCertificate", *in.CertificateId); err != nil {
		return nil, err
	}
	a.described = append(a.described, *in.CertificateId)
	c, ok := a.certs[*in.CertificateId]
	if !ok {
		return nil, &types.ResourceNotFoundException{Message: aws.String("no such certificate")}
	}
	d := &types.CertificateDescription{CertificateId: &c.ID, CertificateArn: arn(c.ID), CertificatePem: &c.PEM, Status: c.Status, CreationDate: &c.Created}
	if !c.Modified.IsZero() {
		d.LastModifiedDate = &c.Modified
	}
	if c.CA != "" {
		d.CaCertificateId = &c.CA
	}
	return &iot.DescribeCertificateOutput{CertificateDescription: d}, nil
}

// ListCACertificates implements inventory.API.
func (a *API) ListCACertificates(context.Context, *iot.ListCACertificatesInput, ...func(*iot.Options)) (*iot.ListCACertificatesOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.called("ListCACertificates", ""); err != nil {
		return nil, err
	}
	out := &iot.ListCACertificatesOutput{}
	for _, c := range a.cas {
		out.Certificates = append(out.Certificates, types.CACertificate{CertificateId: &c.ID})
	}
	return out, nil
}

// DescribeCACertificate implements inventory.API.
func (a *API) DescribeCACertificate(_ context.Context, in *iot.DescribeCACertificateInput, _ ...func(*iot.Options)) (*iot.DescribeCACertificateOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.called("DescribeCACertificate", *in.CertificateId); err != nil {
		return nil, err
	}
	c, ok := a.cas[*in.CertificateId]
	if !ok {
		return nil, &types.ResourceNotFoundException{}
	}
	return &iot.DescribeCACertificateOutput{CertificateDescription: &types.CACertificateDescription{
		CertificateId: &c.ID, CertificatePem: &c.PEM, Status: types.CACertificateStatus(c.Status),
	}}, nil
}

// ListCertificatesByCA implements inventory.API.
func (a *API) ListCertificatesByCA(_ context.Context, in *iot.ListCertificatesByCAInput, _ ...func(*iot.Options)) (*iot.ListCertificatesByCAOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.called("ListCertificatesByCA", *in.CaCertificateId); err != nil {
		return nil, err
	}
	out := &iot.ListCertificatesByCAOutput{}
	for _, id := range a.order {
		if a.certs[id].CA == *in.CaCertificateId {
			out.Certificates = append(out.Certificates, types.Certificate{CertificateId: aws.String(id)})
		}
	}
	return out, nil
}

// ListPrincipalThings implements inventory.API.
func (a *API) ListPrincipalThings(_ context.Context, in *iot.ListPrincipalThingsInput, _ ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.called("ListPrincipalThings", *in.Principal); err != nil {
		return nil, err
	}
	out := &iot.ListPrincipalThingsOutput{}
	if c, ok := a.certs[strings.TrimPrefix(*in.Principal, *arn(""))]; ok {
		out.Things = c.Things
	}
	return out, nil
}

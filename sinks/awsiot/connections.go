package awsiot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
)

// dataService is the name by which requests to the data plane are signed.
const dataService = "iotdata"

// Connections is the part of AWS IoT's data plane that closes connections.
// https://docs.aws.amazon.com/iot/latest/apireference/API_iotdata_DeleteConnection.html
//
// It is one request, signed by the SDK; the SDK's package of that service would
// bring publishing and shadows, which nothing here may do.
type Connections struct {
	endpoint    string
	region      string
	credentials aws.CredentialsProvider
	client      *http.Client
	signer      *v4.Signer
}

// NewConnections returns a client for the region of cfg. The endpoint is "" for
// AWS's own of the region.
func NewConnections(cfg *aws.Config, endpoint string) (*Connections, error) {
	if endpoint == "" {
		endpoint = "https://data-ats.iot." + cfg.Region + "." + domain(cfg.Region)
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("data_endpoint %q: want https://HOST, as of: aws iot describe-endpoint --endpoint-type iot:Data-ATS", endpoint)
	}
	return &Connections{
		endpoint: strings.TrimSuffix(endpoint, "/"), region: cfg.Region, credentials: cfg.Credentials, signer: v4.NewSigner(),
		client: &http.Client{
			Timeout: attemptTimeout,
			// A redirect would carry the signature to where nobody configured it.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// domain is that of the partition of AWS that a region is in.
func domain(region string) string {
	if strings.HasPrefix(region, "cn-") {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

var emptyHash = func() string { sum := sha256.Sum256(nil); return hex.EncodeToString(sum[:]) }()

// Delete closes the connection of a client. Its session stays: what must not be
// delivered to it is not for this call to decide. An error that AWS answers is a
// smithy.APIError.
func (c *Connections) Delete(ctx context.Context, clientID string, preventWill bool) error {
	u := c.endpoint + "/connections/" + url.PathEscape(clientID) + "?preventWillMessage=" + strconv.FormatBool(preventWill)
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, u, http.NoBody)
	if err != nil {
		return err
	}
	creds, err := c.credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	if err := c.signer.SignHTTP(ctx, creds, req, emptyHash, dataService, c.region, time.Now()); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	res, err := c.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, which the caller's error has
		}
		return err
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer)) // for the connection's reuse and the message; the status says it all
	if res.StatusCode/100 == 2 {
		return nil
	}
	code, _, _ := strings.Cut(res.Header.Get("X-Amzn-Errortype"), ":")
	if code == "" {
		code = map[int]string{
			http.StatusNotFound: "ResourceNotFoundException", http.StatusTooManyRequests: "ThrottlingException",
			http.StatusForbidden: "ForbiddenException", http.StatusBadRequest: "InvalidRequestException",
		}[res.StatusCode]
	}
	if code == "" {
		code = "Http" + strconv.Itoa(res.StatusCode)
	}
	var answer struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(body, &answer) // not every answer is JSON
	return &smithy.GenericAPIError{Code: code, Message: answer.Message, Fault: fault(res.StatusCode)}
}

func fault(status int) smithy.ErrorFault {
	if status/100 == 5 {
		return smithy.FaultServer
	}
	return smithy.FaultClient
}

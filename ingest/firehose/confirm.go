package firehose

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	headerRulesEngine = "X-Amz-Rules-Engine-Message-Type"
	confirmation      = "DestinationConfirmation"
	maxConfirmation   = 16 << 10
)

// confirm takes the request with which AWS IoT asks whether a rule may send to
// this endpoint ("Managing HTTP topic rule destinations" in AWS IoT's guide). It
// carries no access key, because the rule's headers are not sent with it, so
// anybody can send one: nothing is called and nothing published. The URL that
// enables the destination goes into the log, for the operator to open if the
// destination is his.
func (x *exchange) confirm() (string, *refusal) {
	malformed := func(format string, args ...any) (string, *refusal) {
		return "", &refusal{http.StatusBadRequest, resultMalformed, fmt.Errorf("destination confirmation: "+format, args...)}
	}
	control := http.NewResponseController(x.w)
	_ = control.SetReadDeadline(time.Now().Add(drainTimeout)) // unsupported in tests without a connection
	body, err := io.ReadAll(io.LimitReader(x.r.Body, maxConfirmation))
	_ = control.SetReadDeadline(time.Time{})
	if err != nil {
		return malformed("%w", err)
	}
	var in struct {
		ARN       string `json:"arn"`
		EnableURL string `json:"enableUrl"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return malformed("%w", err)
	}
	if err := checkEnableURL(in.EnableURL); err != nil {
		return malformed("%w", err)
	}
	x.s.confirmations.Do(func() {
		x.s.log.Warn("AWS IoT asks to confirm a rule's HTTP destination; if it is yours, open the URL",
			zap.String("destination", in.ARN), zap.String("enable_url", in.EnableURL))
	})
	return resultConfirmation, nil
}

// checkEnableURL lets only AWS's own URLs into the log: whoever reads it is asked
// to open them.
func checkEnableURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	host := u.Hostname()
	aws := strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn")
	if u.Scheme != "https" || u.User != nil || !aws || !strings.HasPrefix(host, "iot.") || !strings.HasPrefix(u.Path, "/confirmdestination/") {
		return errors.New("enableUrl is not one of AWS IoT's")
	}
	return nil
}

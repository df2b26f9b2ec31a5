package main

import (
	"net/http"
	"strings"
	"testing"
)

// A process whose parts have not started has none that could say that it is not
// ready.
func TestNotReadyWhileStarting(t *testing.T) {
	t.Parallel()
	file := write(t, "tocsin.yaml", `admin: {listen: "127.0.0.1:0"}`)
	p := start(t, []string{"TOCSIN_KAFKA_BROKERS=" + freeAddress(t)}, "correlate", "--config", file)
	if code, body := p.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "[-]started failed: the stages are being started") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, _ := p.get("/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d", code)
	}
}

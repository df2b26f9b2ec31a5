package benchmarks

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/internal/registry"
	"github.com/tocsin-io/tocsin/schemas"
	"github.com/tocsin-io/tocsin/sinks/decision"
)

const (
	decisionRate        = 5000 // requests per second
	decisionConnections = 64   // of brokers
	decisionFleet       = 500_000
	// decisionServer in the environment makes the test binary a server.
	decisionServer = "TOCSIN_BENCH_DECISION_SERVER"
)

// TestMain makes the server of BenchmarkDecisions a process of its own, so that it
// can be kept to one core and its CPU time be told from that of its clients.
func TestMain(m *testing.M) {
	if os.Getenv(decisionServer) == "" {
		os.Exit(m.Run())
	}
	if err := serveDecisions(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// deviceOf is the i-th certificate of the fleet.
func deviceOf(i int) schemas.Certificate {
	name := fmt.Sprintf("pump-%07d", i)
	c := schemas.Certificate{
		ID: fmt.Sprintf("%064x", uint64(i+1)*0x9e3779b97f4a7c15), Serial: fmt.Sprintf("%x", uint64(i+1)*0xbf58476d1ce4e5b9),
		Issuer: "CN=Fleet CA,O=Example", IssuerKeyID: "5f0a3b", Subject: "CN=" + name + ",O=Example",
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(4_000_000_000, 0), Status: schemas.CertActive, Things: []string{name},
	}
	if i%50 == 0 {
		c.Status = schemas.CertRevoked
	}
	return c
}

func serveDecisions() error {
	table := registry.New(registry.Options{ByName: true})
	for i := range decisionFleet {
		c := deviceOf(i)
		if err := table.Put(&c); err != nil {
			return err
		}
	}
	table.SetComplete(time.UnixMilli(1))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server, err := decision.New(decision.Options{Table: table, Listener: listener, Anonymous: true})
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return server.Run(ctx)
}

// BenchmarkDecisions asks the decision endpoint 5,000 times a second, in the shapes
// of EMQX and mosquitto-go-auth and by serial number. The server has one core
// (GOMAXPROCS=1). A request's time begins when it is due, not when a connection is
// free. The bar is 2 ms for the 99th percentile.
func BenchmarkDecisions(b *testing.B) {
	duration := 10 * time.Second
	if testing.Short() {
		duration = 2 * time.Second
	}
	address, cpu, stop := startDecisionServer(b)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: decisionConnections, MaxConnsPerHost: decisionConnections}}
	for range b.N {
		latencies := make([]time.Duration, int(duration.Seconds()*decisionRate))
		var next, wrong atomic.Int64
		before, start := cpu(), time.Now()
		var clients sync.WaitGroup
		for range decisionConnections {
			clients.Go(func() {
				for {
					i := int(next.Add(1)) - 1
					if i >= len(latencies) {
						return
					}
					due := start.Add(time.Duration(i) * time.Second / decisionRate)
					time.Sleep(time.Until(due))
					if ok, err := askDecision(client, address, i); err != nil || !ok {
						wrong.Add(1)
					}
					latencies[i] = time.Since(due)
				}
			})
		}
		clients.Wait()
		took := time.Since(start)
		if n := wrong.Load(); n > 0 {
			b.Fatalf("%d answers are wrong", n)
		}
		slices.Sort(latencies)
		at := func(share float64) float64 {
			return float64(latencies[int(share*float64(len(latencies)-1))].Microseconds()) / 1000
		}
		b.ReportMetric(at(0.5), "p50-ms")
		b.ReportMetric(at(0.99), "p99-ms")
		b.ReportMetric(at(0.999), "p999-ms")
		b.ReportMetric(float64(len(latencies))/took.Seconds(), "requests/s")
		b.ReportMetric(float64((cpu()-before).Microseconds())/float64(len(latencies)), "server-cpu-us/request")
	}
	stop()
}

// askDecision asks about the device of the i-th request, and reports whether the
// answer is right.
func askDecision(client *http.Client, address string, i int) (bool, error) {
	c := deviceOf(i * 7919 % decisionFleet)
	allow := c.Status == schemas.CertActive
	name := c.Things[0]
	var res *http.Response
	var err error
	switch i % 4 {
	case 0:
		res, err = client.Post("http://"+address+"/v1/emqx/authn", "application/json", strings.NewReader(`{"clientid":"`+name+`","certificate_id":"`+c.ID+`"}`))
	case 1:
		res, err = client.Post("http://"+address+"/v1/emqx/authn", "application/json", strings.NewReader(`{"clientid":"`+name+`","cert_common_name":"`+name+`","cert_subject":"`+c.Subject+`"}`))
	case 2:
		res, err = client.PostForm("http://"+address+"/auth/user", url.Values{"username": {name}, "clientid": {name}, "password": {""}})
	default:
		res, err = client.Get("http://" + address + "/v1/certificates/" + c.Serial)
	}
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if i%4 == 2 {
		return (res.StatusCode == http.StatusOK) == allow, err
	}
	said := strings.Contains(string(body), `"result":"allow"`) || strings.Contains(string(body), `"allow":true`)
	return res.StatusCode == http.StatusOK && said == allow, err
}

// startDecisionServer returns the server's address, what gives its CPU time, and
// what stops it.
func startDecisionServer(b *testing.B) (address string, cpu func() time.Duration, stop func()) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), decisionServer+"=1", "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // the signal is how it ends
	})
	b.Cleanup(stop)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	cpu = func() time.Duration {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil {
			b.Fatal(err)
		}
		// Behind the name in parentheses, user and system time are the 12th and 13th, in
		// hundredths of a second.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		var user, system int64
		if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
			b.Fatal(err)
		}
		return time.Duration(user+system) * 10 * time.Millisecond
	}
	return strings.TrimSpace(line), cpu, stop
}

package testkit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	kgo "github.com/segmentio/kafka-go"
)

// KafkaOptions describe a Kafka cluster for tests. The zero value is one node with a plaintext listener.
type KafkaOptions struct {
	// Nodes is 1 (default) or more; each is broker and controller. With three or more, topics have three replicas by default
	// and min.insync.replicas is 2.
	Nodes int
	// Secure adds a listener with TLS and SASL: see [Kafka.Secure].
	Secure bool
	// Properties are added to every node's configuration.
	Properties map[string]string
	// JVMFlags are added to the command line. The default heap is 384 MiB, and code is compiled by the quick compiler only,
	// which halves the start on a busy machine; throughput is not that of a tuned broker.
	JVMFlags []string
}

// Kafka is a running cluster of Apache Kafka brokers. Methods about one node must not be called for the same node at the
// same time.
type Kafka struct {
	opts   KafkaOptions
	dir    string
	jars   string
	nodes  []*kafkaNode
	secure *SecureListener
}

type kafkaNode struct {
	id         int
	dir        string
	port       int // plaintext
	controller int
	securePort int
	process    *process
}

const (
	// kafkaSessionTimeout is how long a killed broker's registration lives: that long it can neither come back nor lose its
	// leaderships. Kafka's default of 9 s would be most of a test's time.
	kafkaSessionTimeout = 3 * time.Second
	kafkaStartTimeout   = 90 * time.Second
	kafkaStartAttempts  = 3
	kafkaClusterID      = "dG9jc2luLXRlc3RraXQtMQ" // 16 bytes, base64
)

// StartKafka starts a cluster of Apache Kafka that ends with the test, fetching Kafka first if need be. It takes about 5 s
// (one node) to 15 s (three): share one between tests that do not break it, with [SharedKafka].
func StartKafka(t testing.TB, opts KafkaOptions) *Kafka {
	t.Helper()
	k, err := startKafka(fetch(t, "fetch-kafka.sh"), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.close()
		if t.Failed() {
			t.Log(k.Logs())
		}
		os.RemoveAll(k.dir)
	})
	return k
}

// NewKafka is StartKafka for a program that is not a test. The caller closes the cluster.
func NewKafka(opts KafkaOptions) (*Kafka, error) {
	jars, err := runFetcher("fetch-kafka.sh")
	if err != nil {
		return nil, err
	}
	return startKafka(jars, opts)
}

// Close ends all nodes and removes their data.
func (k *Kafka) Close() error {
	k.close()
	return os.RemoveAll(k.dir)
}

// SharedKafka is one cluster for all tests of a package: declare a variable of it, and call Stop at the end of TestMain. Tests
// use topics and groups of their own.
type SharedKafka struct {
	Options KafkaOptions

	mu sync.Mutex
	k  *Kafka
}

// Brokers returns the brokers' addresses: of the cluster that TOCSIN_KAFKA_BROKERS names (comma-separated), or of one that is
// started at first use.
func (s *SharedKafka) Brokers(t testing.TB) []string {
	t.Helper()
	if brokers := os.Getenv("TOCSIN_KAFKA_BROKERS"); brokers != "" {
		return strings.Split(brokers, ",")
	}
	return s.Cluster(t).Brokers()
}

// Cluster starts the cluster at first use and returns it, whatever TOCSIN_KAFKA_BROKERS says: for tests that stop and start
// nodes. They must leave all of them running.
func (s *SharedKafka) Cluster(t testing.TB) *Kafka {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.k == nil {
		k, err := startKafka(fetch(t, "fetch-kafka.sh"), s.Options)
		if err != nil {
			t.Fatal(err)
		}
		s.k = k
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.k.Logs())
		}
	})
	return s.k
}

// Stop ends the cluster if it was started.
func (s *SharedKafka) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.k != nil {
		s.k.close()
		os.RemoveAll(s.k.dir)
		s.k = nil
	}
}

func startKafka(jars string, opts KafkaOptions) (*Kafka, error) {
	if opts.Nodes <= 0 {
		opts.Nodes = 1
	}
	if _, err := exec.LookPath("java"); err != nil {
		return nil, errors.New("java not found: install a JDK 17 or newer, or set TOCSIN_KAFKA_BROKERS to a running broker")
	}
	// Ports are free when they are chosen and may be taken when the broker binds them; then all is done again with others.
	var err error
	for range kafkaStartAttempts {
		var k *Kafka
		if k, err = tryStartKafka(jars, opts); err == nil {
			return k, nil
		}
	}
	return nil, err
}

func tryStartKafka(jars string, opts KafkaOptions) (k *Kafka, err error) {
	dir, err := os.MkdirTemp("", "tocsin-kafka-")
	if err != nil {
		return nil, err
	}
	k = &Kafka{opts: opts, dir: dir, jars: jars}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start Apache Kafka: %w\n%s", err, k.Logs())
			k.close()
			os.RemoveAll(dir)
			k = nil
		}
	}()
	perNode := 2
	if opts.Secure {
		perNode = 3
		if k.secure, err = newSecureListener(dir); err != nil {
			return k, err
		}
	}
	ports, err := FreePorts(perNode * opts.Nodes)
	if err != nil {
		return k, err
	}
	for i := range opts.Nodes {
		n := &kafkaNode{id: i + 1, dir: filepath.Join(dir, "node"+strconv.Itoa(i+1)), port: ports[perNode*i], controller: ports[perNode*i+1]}
		if opts.Secure {
			n.securePort = ports[perNode*i+2]
			k.secure.Brokers = append(k.secure.Brokers, loopback(n.securePort))
		}
		k.nodes = append(k.nodes, n)
	}
	failures := make(chan error, len(k.nodes))
	for _, n := range k.nodes {
		go func() { failures <- k.format(n) }()
	}
	for range k.nodes {
		err = errors.Join(err, <-failures)
	}
	if err != nil {
		return k, err
	}
	for _, n := range k.nodes {
		if err := k.launch(n); err != nil {
			return k, err
		}
	}
	for _, n := range k.nodes {
		if err := k.await(context.Background(), n, len(k.nodes)); err != nil {
			return k, err
		}
	}
	return k, nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// FreePorts returns n different loopback ports that nothing listens on. They lie below the range from which the system takes
// the ports of outgoing connections, so that a server that is down does not lose its port to one of them.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range 1000 {
		port := 10_000 + rand.IntN(20_000)
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		// Held until all are found, so that they differ.
		defer l.Close()
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports on loopback", n)
}

func (k *Kafka) properties(n *kafkaNode) map[string]string {
	replicas := strconv.Itoa(min(3, len(k.nodes)))
	minISR := strconv.Itoa(max(1, min(3, len(k.nodes))-1))
	voters := make([]string, len(k.nodes))
	for i, v := range k.nodes {
		voters[i] = fmt.Sprintf("%d@%s", v.id, loopback(v.controller))
	}
	p := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        strconv.Itoa(n.id),
		"controller.quorum.voters":       strings.Join(voters, ","),
		"controller.listener.names":      "CONTROLLER",
		"inter.broker.listener.name":     "PLAINTEXT",
		"listeners":                      "PLAINTEXT://" + loopback(n.port) + ",CONTROLLER://" + loopback(n.controller),
		"advertised.listeners":           "PLAINTEXT://" + loopback(n.port),
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
		"log.dirs":                       filepath.Join(n.dir, "data"),

		"default.replication.factor":                       replicas,
		"min.insync.replicas":                              minISR,
		"offsets.topic.replication.factor":                 replicas,
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         replicas,
		"transaction.state.log.min.isr":                    minISR,
		"transaction.state.log.num.partitions":             "2",
		"share.coordinator.state.topic.replication.factor": replicas,
		"share.coordinator.state.topic.min.isr":            minISR,
		"auto.create.topics.enable":                        "false",

		"broker.session.timeout.ms":        strconv.FormatInt(kafkaSessionTimeout.Milliseconds(), 10),
		"broker.heartbeat.interval.ms":     "500",
		"group.initial.rebalance.delay.ms": "0",
		"group.min.session.timeout.ms":     "1000",
		// A compacted topic is compacted at once, with little memory.
		"log.cleaner.backoff.ms":         "500",
		"log.cleaner.dedupe.buffer.size": "4194304",
		"num.network.threads":            "2",
		"num.io.threads":                 "4",
	}
	if k.secure != nil {
		p["listeners"] += ",SASL_SSL://" + loopback(n.securePort)
		p["advertised.listeners"] += ",SASL_SSL://" + loopback(n.securePort)
		k.secure.properties(p)
	}
	for name, value := range k.opts.Properties {
		p[name] = value
	}
	return p
}

func (k *Kafka) format(n *kafkaNode) error {
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return err
	}
	var properties strings.Builder
	for name, value := range k.properties(n) {
		fmt.Fprintf(&properties, "%s=%s\n", name, value)
	}
	files := map[string]string{
		"node.properties": properties.String(),
		"log4j2.properties": "rootLogger.level=info\nrootLogger.appenderRef.stdout.ref=stdout\n" +
			"appender.stdout.type=Console\nappender.stdout.name=stdout\nappender.stdout.layout.type=PatternLayout\n" +
			"appender.stdout.layout.pattern=%d{HH:mm:ss.SSS} %p %m (%c{1})%n\n",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(n.dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	args := []string{"format", "-t", kafkaClusterID, "-c", filepath.Join(n.dir, "node.properties")}
	if k.secure != nil {
		args = append(args, k.secure.scramArgs()...)
	}
	out, err := exec.Command("java", k.java(n, "kafka.tools.StorageTool", args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("format node %d: %w\n%s", n.id, err, out)
	}
	return nil
}

func (k *Kafka) java(n *kafkaNode, class string, args ...string) []string {
	flags := []string{
		"-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true",
		"-Dlog4j2.configurationFile=" + filepath.Join(n.dir, "log4j2.properties"),
		// The codecs' libraries are unpacked there; a broker that is killed does not remove them.
		"-Djava.io.tmpdir=" + n.dir,
	}
	flags = append(append(flags, k.opts.JVMFlags...), "-cp", filepath.Join(k.jars, "*"), class)
	return append(flags, args...)
}

func (k *Kafka) launch(n *kafkaNode) (err error) {
	n.process, err = startProcess(exec.Command("java", k.java(n, "kafka.Kafka", filepath.Join(n.dir, "node.properties"))...), n.log())
	return err
}

func (n *kafkaNode) log() string { return filepath.Join(n.dir, "kafka.log") }

// await waits until the node serves clients and knows of as many brokers as there are.
func (k *Kafka) await(ctx context.Context, n *kafkaNode, brokers int) error {
	ctx, cancel := context.WithTimeout(ctx, kafkaStartTimeout)
	defer cancel()
	for {
		if !n.process.running() {
			return fmt.Errorf("node %d ended: %v", n.id, n.process.cmd.ProcessState)
		}
		known, err := knownBrokers(ctx, n.port)
		if err == nil && known >= brokers {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %d is not ready after %s: %d of %d brokers: %w", n.id, kafkaStartTimeout, known, brokers, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func knownBrokers(ctx context.Context, port int) (int, error) {
	dialer := &kgo.Dialer{Timeout: 2 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", loopback(port))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, err
	}
	brokers, err := conn.Brokers()
	return len(brokers), err
}

// Brokers returns the addresses of the plaintext listeners, of all nodes whether they run or not.
func (k *Kafka) Brokers() []string {
	addrs := make([]string, len(k.nodes))
	for i, n := range k.nodes {
		addrs[i] = loopback(n.port)
	}
	return addrs
}

// Secure returns the TLS and SASL listener of a cluster started with that option.
func (k *Kafka) Secure() *SecureListener { return k.secure }

// NodeAt returns the index of the node whose plaintext listener has the address, -1 if there is none.
func (k *Kafka) NodeAt(addr string) int {
	for i, n := range k.nodes {
		if loopback(n.port) == addr {
			return i
		}
	}
	return -1
}

// Kill ends node i (0 is the first) with SIGKILL.
func (k *Kafka) Kill(i int) { k.nodes[i].process.kill() }

// Restart starts node i again, on its data and ports, and returns when it serves clients or ctx ends.
func (k *Kafka) Restart(ctx context.Context, i int) error {
	n := k.nodes[i]
	n.process.kill()
	if err := k.launch(n); err != nil {
		return err
	}
	return k.await(ctx, n, 1)
}

// Pause freezes node i: its connections stay open and nothing answers.
func (k *Kafka) Pause(i int) error { return k.nodes[i].process.signal(syscall.SIGSTOP) }

// Resume lets a frozen node go on.
func (k *Kafka) Resume(i int) error { return k.nodes[i].process.signal(syscall.SIGCONT) }

// KillNode is Kill for a test.
func (k *Kafka) KillNode(t testing.TB, i int) {
	t.Helper()
	k.Kill(i)
}

// StopNode ends node i in order: it hands its leaderships over first.
func (k *Kafka) StopNode(t testing.TB, i int) {
	t.Helper()
	k.nodes[i].process.stop(30 * time.Second)
}

// RestartNode is Restart for a test.
func (k *Kafka) RestartNode(t testing.TB, i int) {
	t.Helper()
	if err := k.Restart(context.Background(), i); err != nil {
		t.Fatal(err)
	}
}

// PauseNode is Pause for a test.
func (k *Kafka) PauseNode(t testing.TB, i int) {
	t.Helper()
	if err := k.Pause(i); err != nil {
		t.Fatalf("pause node %d: %v", i, err)
	}
}

// ResumeNode is Resume for a test.
func (k *Kafka) ResumeNode(t testing.TB, i int) {
	t.Helper()
	if err := k.Resume(i); err != nil {
		t.Fatalf("resume node %d: %v", i, err)
	}
}

// Logs returns the end of every node's log.
func (k *Kafka) Logs() string {
	var b strings.Builder
	for _, n := range k.nodes {
		fmt.Fprintf(&b, "--- kafka node %d ---\n%s\n", n.id, tail(n.log(), 60))
	}
	return b.String()
}

func (k *Kafka) close() {
	for _, n := range k.nodes {
		if n.process != nil {
			n.process.kill()
		}
	}
}

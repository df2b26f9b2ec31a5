package testkit

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// motoServer is moto's own server loop, with four differences: the port is the one the system gives, which is printed;
// certificate IDs are those of AWS (the SHA-256 of the DER), which moto's HTTP configuration endpoint cannot switch on;
// requests are not logged; and a Kinesis shard that was split or merged is closed as AWS closes it: it keeps its records,
// takes no new ones, and has an end (moto 5.2.1 gives its records new sequence numbers and goes on writing to it).
const motoServer = `
import logging
from moto.core.config import default_user_config
default_user_config["iot"] = {"use_valid_cert": True}
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from collections import OrderedDict
from hashlib import md5
from moto.kinesis import models as kinesis
def shard_for_key(stream, partition_key, explicit_hash_key):
    key = int(explicit_hash_key) if explicit_hash_key else int(md5(partition_key.encode()).hexdigest(), 16)
    return next(s for s in stream.shards.values() if s.is_open and s.starting_hash <= key <= s.ending_hash)
def keep_records(reshard):
    def keeping(stream, *args):
        kept = {s: s.records for s in stream.shards.values()}
        for s in kept:
            s.records = OrderedDict()
        try:
            reshard(stream, *args)
        finally:
            for s, records in kept.items():
                s.records = records
    return keeping
def get_records(backend, stream_arn, shard_iterator, limit, original=kinesis.KinesisBackend.get_records):
    following, records, behind = original(backend, stream_arn, shard_iterator, limit)
    stream_name, shard_id, last = kinesis.decompose_shard_iterator(following)
    shard = backend.describe_stream(stream_arn, stream_name).get_shard(shard_id)
    if not shard.is_open and int(last) >= shard.get_max_sequence_number():
        following = None
    return following, records, behind
kinesis.Stream.get_shard_for_key = shard_for_key
kinesis.Stream.split_shard = keep_records(kinesis.Stream.split_shard)
kinesis.Stream.merge_shards = keep_records(kinesis.Stream.merge_shards)
kinesis.KinesisBackend.get_records = get_records
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.port, flush=True)
server.serve_forever()
`

// StartMoto starts moto, a fake of the AWS APIs, and returns its endpoint URL. It ends with the test. What it gets wrong:
// subscription filters ignore their pattern and number log event IDs; EnhancedFanOut, Device Defender and throttling are
// missing and answer HTTP 500, so set RetryMaxAttempts to 1. It takes some seconds to start: see [SharedMoto].
func StartMoto(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	m, err := startMoto(fetch(t, "fetch-moto.sh"), dir)
	t.Cleanup(func() {
		if m != nil {
			m.process.kill()
		}
		if t.Failed() {
			t.Logf("moto log:\n%s", tail(filepath.Join(dir, "moto.log"), 40))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return m.endpoint
}

// SharedMoto is one moto for all tests of a package. Declare a variable of it, and call Stop at the end of TestMain. The
// tests share its state: use names of their own.
type SharedMoto struct {
	mu  sync.Mutex
	m   *moto
	dir string
}

// Endpoint starts moto at first use and returns its URL.
func (s *SharedMoto) Endpoint(t testing.TB) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		venv := fetch(t, "fetch-moto.sh")
		dir, err := os.MkdirTemp("", "tocsin-moto-") //nolint:usetesting // it outlives this test
		if err != nil {
			t.Fatal(err)
		}
		s.dir = dir
		if s.m, err = startMoto(venv, dir); err != nil {
			t.Fatal(err)
		}
	}
	return s.m.endpoint
}

// Stop ends moto if it was started.
func (s *SharedMoto) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m != nil {
		s.m.process.kill()
	}
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
}

type moto struct {
	process  *process
	endpoint string
}

func startMoto(venv, dir string) (*moto, error) {
	cmd := exec.Command(filepath.Join(venv, "bin", "python"), "-c", motoServer)
	// moto must not find the developer's credentials and reach for the real AWS.
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=testing", "AWS_SECRET_ACCESS_KEY=testing", "AWS_SESSION_TOKEN=testing", "PYTHONDONTWRITEBYTECODE=1")
	stdout, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	cmd.Stdout = writer
	log := filepath.Join(dir, "moto.log")
	p, err := startProcess(cmd, log)
	writer.Close()
	if err != nil {
		return nil, err
	}
	if err := stdout.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
		p.kill()
		return nil, err
	}
	var port int
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &port)
	}
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("moto did not start: %w\n%s", err, tail(log, 40))
	}
	m := &moto{process: p, endpoint: fmt.Sprintf("http://127.0.0.1:%d", port)}
	res, err := http.Get(m.endpoint + "/moto-api/data.json")
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("moto does not answer: %w\n%s", err, tail(log, 40))
	}
	res.Body.Close()
	return m, nil
}

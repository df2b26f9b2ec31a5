package testkit

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Mosquitto is the MQTT broker of that name. It speaks TLS and wants a certificate
// of its CA from every client, that is not in CRLFile.
type Mosquitto struct {
	CA *CA
	// CRLFile is read when the broker starts and at SIGHUP.
	CRLFile string
	// PIDFile has the broker's process ID.
	PIDFile string

	dir, root, port string
	process         *process
}

// NewMosquitto prepares a broker. CRLFile must have a list of the CA before Start.
func NewMosquitto(t testing.TB) *Mosquitto {
	t.Helper()
	dir := t.TempDir()
	m := &Mosquitto{
		CA: NewCA(t, "Mosquitto tests"), CRLFile: filepath.Join(dir, "crl.pem"), PIDFile: filepath.Join(dir, "mosquitto.pid"),
		dir: dir, root: fetch(t, "fetch-mosquitto.sh"),
	}
	m.write(t, "ca.pem", PEM(m.CA.Cert))
	server := &x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	m.issue(t, "server", server)
	return m
}

// Start starts the broker; it ends with the test.
func (m *Mosquitto) Start(t testing.TB) {
	t.Helper()
	log := filepath.Join(m.dir, "mosquitto.log")
	t.Cleanup(func() {
		if m.process != nil {
			m.process.kill()
		}
		if t.Failed() {
			t.Logf("mosquitto log:\n%s", tail(log, 40))
		}
	})
	// It cannot say which port the system gave it: somebody else may take the one that
	// was free a moment ago.
	for range 5 {
		m.start(t, log)
		for deadline := time.Now().Add(20 * time.Second); m.process.running() && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(m.PIDFile); err != nil {
				continue
			}
			conn, err := net.Dial("tcp", "127.0.0.1:"+m.port)
			if err == nil {
				conn.Close()
				return
			}
		}
		m.process.kill()
	}
	t.Fatal("mosquitto does not start")
}

func (m *Mosquitto) start(t testing.TB, log string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.port = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	listener.Close()
	os.Remove(m.PIDFile)
	m.write(t, "mosquitto.conf", fmt.Sprintf(`listener %s 127.0.0.1
allow_anonymous true
require_certificate true
use_identity_as_username true
cafile %[2]s/ca.pem
certfile %[2]s/server.pem
keyfile %[2]s/server.key
crlfile %[3]s
pid_file %[4]s
persistence false
user root
log_type all
`, m.port, m.dir, m.CRLFile, m.PIDFile))
	cmd := m.command(t.Context(), "usr/sbin/mosquitto", "-c", filepath.Join(m.dir, "mosquitto.conf"))
	if m.process, err = startProcess(cmd, log); err != nil {
		t.Fatal(err)
	}
}

// command runs one of the package's programs with its libraries.
func (m *Mosquitto) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(m.root, program), args...)
	var libraries []string
	for _, dir := range []string{"usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"} {
		libraries = append(libraries, filepath.Join(m.root, dir))
	}
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	return cmd
}

// Device makes a device with a certificate of the CA.
func (m *Mosquitto) Device(t testing.TB, name string) *MQTTDevice {
	t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: []string{"Tocsin tests"}}}
	return &MQTTDevice{broker: m, name: name, Cert: m.issue(t, name, template)}
}

func (m *Mosquitto) issue(t testing.TB, name string, template *x509.Certificate) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := m.CA.Issue(t, template, key.Public())
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, name+".pem", PEM(cert))
	m.write(t, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return cert
}

func (m *Mosquitto) write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// MQTTDevice is a client of a Mosquitto.
type MQTTDevice struct {
	Cert *x509.Certificate

	broker *Mosquitto
	name   string
}

// Publish connects with mosquitto_pub, publishes one message and waits until the
// broker has it.
func (d *MQTTDevice) Publish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	file := func(name string) string { return filepath.Join(d.broker.dir, name) }
	cmd := d.broker.command(ctx, "usr/bin/mosquitto_pub", "-h", "127.0.0.1", "-p", d.broker.port, "-i", d.name, "-q", "1",
		"-t", "fleet/"+d.name, "-m", "hello", "--cafile", file("ca.pem"), "--cert", file(d.name+".pem"), "--key", file(d.name+".key"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("mosquitto_pub: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

package kafka_test

import (
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
)

// flakyNet is the network between a kfake cluster and its clients: responses can be lost or held up on it, after the broker
// has done what was asked.
type flakyNet struct {
	mu       sync.Mutex
	cond     *sync.Cond
	paused   bool
	dropNext int
	dropped  int
}

func newFlakyNet() *flakyNet {
	n := &flakyNet{}
	n.cond = sync.NewCond(&n.mu)
	return n
}

func (n *flakyNet) opt() kfake.Opt {
	return kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		return flakyListener{l, n}, err
	})
}

// drop closes connections instead of writing the next count responses.
func (n *flakyNet) drop(count int) {
	n.mu.Lock()
	n.dropNext = count
	n.mu.Unlock()
}

func (n *flakyNet) drops() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dropped
}

// pause holds all responses back until resume.
func (n *flakyNet) pause() { n.setPaused(true) }

func (n *flakyNet) resume() { n.setPaused(false) }

func (n *flakyNet) setPaused(paused bool) {
	n.mu.Lock()
	n.paused = paused
	n.mu.Unlock()
	n.cond.Broadcast()
}

type flakyListener struct {
	net.Listener
	n *flakyNet
}

func (l flakyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return flakyConn{c, l.n}, nil
}

type flakyConn struct {
	net.Conn
	n *flakyNet
}

func (c flakyConn) Write(b []byte) (int, error) {
	c.n.mu.Lock()
	for c.n.paused {
		c.n.cond.Wait()
	}
	drop := c.n.dropNext > 0
	if drop {
		c.n.dropNext--
		c.n.dropped++
	}
	c.n.mu.Unlock()
	if drop {
		c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

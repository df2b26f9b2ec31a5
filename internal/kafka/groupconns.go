package kafka

import (
	"context"
	"net"
	"sync"
)

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// groupConns are the connections of one member to its group's coordinator. kafka-go offers no way to give up on a request to
// join: the broker answers it when every other member has joined again, which can be the whole rebalance timeout.
type groupConns struct {
	dial dialFunc

	mu   sync.Mutex
	open map[*groupConn]struct{}
}

type groupConn struct {
	net.Conn
	set *groupConns
}

func newGroupConns(dial dialFunc) *groupConns {
	return &groupConns{dial: dial, open: make(map[*groupConn]struct{})}
}

func (s *groupConns) dialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := s.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &groupConn{conn, s}
	s.mu.Lock()
	s.open[c] = struct{}{}
	s.mu.Unlock()
	return c, nil
}

// Close implements net.Conn.
func (c *groupConn) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

// cut ends every request under way with an error.
func (s *groupConns) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		_ = c.Conn.Close() // the owner closes it again, and learns of it then
	}
}

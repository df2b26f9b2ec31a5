package clickhouse

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/tocsin-io/tocsin/internal/embedded/chdb"
)

// session is a connection of the engine together with what has been SET on it.
// HTTP requests have no state, connections have: align brings a connection to
// what a request asks for, and one whose state is not known is thrown away.
type session struct {
	conn     *chdb.Conn
	mark     string // log_comment of its statements, by which they are killed
	database string
	settings map[string]string
	spoiled  bool // the statement may have changed the session
}

const defaultDatabase = "default"

// align makes exactly these settings and this database current.
func (s *session) align(database string, settings map[string]string) error {
	if database == "" {
		database = defaultDatabase
	}
	// Until the end a failure leaves the session half way.
	s.spoiled = true
	settings = maps.Clone(settings)
	if _, ok := settings["log_comment"]; !ok {
		settings["log_comment"] = s.mark
	}
	var set []string
	for name := range s.settings {
		if _, ok := settings[name]; !ok {
			set = append(set, name+" = DEFAULT")
		}
	}
	for name, value := range settings {
		if old, ok := s.settings[name]; !ok || old != value {
			set = append(set, name+" = "+quote(value, '\''))
		}
	}
	if len(set) > 0 {
		slices.Sort(set) // one order, so that an error is always the same
		if err := s.conn.Exec("SET " + strings.Join(set, ", ")); err != nil {
			return err
		}
	}
	s.settings = settings
	if database != s.database {
		if err := s.conn.Exec("USE " + quote(database, '`')); err != nil {
			return err
		}
		s.database = database
	}
	// readonly cannot be taken back on a connection.
	s.spoiled = settings["readonly"] != "" && settings["readonly"] != "0"
	return nil
}

func quote(s string, mark byte) string {
	var b strings.Builder
	b.WriteByte(mark)
	for i := range len(s) {
		if s[i] == mark || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte(mark)
	return b.String()
}

// pool keeps a bounded number of sessions: the engine runs one statement at a
// time on each.
type pool struct {
	lib     *chdb.Library
	args    []string
	slots   chan struct{} // one token per statement that may run
	waiting chan struct{} // one token per request that may wait for a slot

	mu   sync.Mutex
	idle []*session

	// control kills queries of the others.
	controlMu sync.Mutex
	control   *chdb.Conn
}

// newPool starts the engine; args are those of its first connection.
func newPool(lib *chdb.Library, args []string, size, queue int) (*pool, error) {
	control, err := lib.Connect(args...)
	if err != nil {
		return nil, err
	}
	return &pool{
		lib: lib, args: args, control: control,
		slots: make(chan struct{}, size), waiting: make(chan struct{}, queue),
	}, nil
}

// get waits for a free session. The caller must put it back.
func (p *pool) get(ctx context.Context) (*session, error) {
	select {
	case p.slots <- struct{}{}:
	default:
		select {
		case p.waiting <- struct{}{}:
		default:
			return nil, exception(codeTooManyQueries, "TOO_MANY_SIMULTANEOUS_QUERIES",
				"Too many simultaneous queries: %d running, %d waiting", cap(p.slots), cap(p.waiting))
		}
		select {
		case p.slots <- struct{}{}:
			<-p.waiting
		case <-ctx.Done():
			<-p.waiting
			return nil, exception(codeQueryWasCancelled, "QUERY_WAS_CANCELLED", "Client went away while waiting")
		}
	}
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		s := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return s, nil
	}
	p.mu.Unlock()
	s, err := p.open()
	if err != nil {
		<-p.slots
		return nil, err
	}
	return s, nil
}

func (p *pool) open() (*session, error) {
	conn, err := p.lib.Connect(p.args...)
	if err != nil {
		return nil, err
	}
	return &session{conn: conn, mark: "session " + uuid.NewString(), database: defaultDatabase}, nil
}

// put takes a session back after its statement has ended.
func (p *pool) put(s *session) {
	if s.spoiled {
		s.conn.Close()
	} else {
		p.mu.Lock()
		p.idle = append(p.idle, s)
		p.mu.Unlock()
	}
	<-p.slots
}

// watch kills the statement of s when ctx ends first. The returned function
// must be called when the statement has ended and before s is put back: it
// waits for a kill that is under way, which would otherwise hit the session's
// next statement. (The engine gives no handle to a statement and no way to
// choose its query_id; log_comment is what can be set and searched for.)
//
// One kill is not enough: it finds nothing when ctx ends while the statement is
// only being prepared, and a query without an end would keep the session for ever.
func (p *pool) watch(ctx context.Context, s *session) (done func()) {
	ended, killed := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		for {
			p.kill(s.mark)
			select {
			case <-ended:
				return
			case <-time.After(killAgain):
			}
		}
	})
	return func() {
		close(ended)
		if !stop() {
			<-killed
		}
	}
}

// killAgain is how long after a kill the next one follows.
const killAgain = 200 * time.Millisecond

func (p *pool) kill(mark string) {
	p.controlMu.Lock()
	defer p.controlMu.Unlock()
	if p.control != nil {
		// An error means that the statement has just ended.
		_ = p.control.Exec(fmt.Sprintf("KILL QUERY WHERE Settings['log_comment'] = %s ASYNC", quote(mark, '\'')))
	}
}

// close kills what runs, waits for it until ctx ends and closes every
// connection.
func (p *pool) close(ctx context.Context) error {
	if len(p.slots) > 0 {
		p.controlMu.Lock()
		_ = p.control.Exec("KILL QUERY WHERE startsWith(Settings['log_comment'], 'session ') ASYNC")
		p.controlMu.Unlock()
	}
	for range cap(p.slots) {
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("statements still run: %w", ctx.Err())
		}
	}
	p.mu.Lock()
	for _, s := range p.idle {
		s.conn.Close()
	}
	p.idle = nil
	p.mu.Unlock()
	p.controlMu.Lock()
	p.control.Close()
	p.control = nil
	p.controlMu.Unlock()
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/tail"
	"github.com/tocsin-io/tocsin/internal/telemetry"
	"github.com/tocsin-io/tocsin/schemas"
)

type actionsCmd struct {
	List    actionsListCmd    `cmd:"" help:"List automated responses, newest first."`
	Show    actionsShowCmd    `cmd:"" help:"Show every step of one."`
	Approve actionsApproveCmd `cmd:"" help:"Let one that waits for approval be done."`
	Reject  actionsRejectCmd  `cmd:"" help:"Do not let it be done."`
	Resume  actionsResumeCmd  `cmd:"" help:"Close the breaker of a sink."`
}

// journalFlags are those of all commands about actions.
type journalFlags struct {
	configFlags
	JSON bool `name:"json" help:"One JSON object per line, as in tocsin.actions."`
}

// journal is tocsin.actions, read and written by a person.
type journal struct {
	client *kafka.Client
	log    *actionlog.Log
	close  func()

	mu    sync.Mutex
	steps map[string][]*schemas.Action // by ID, in their order
}

// openJournal reads the topic.
func (c *journalFlags) openJournal(ctx context.Context, std streams) (*journal, error) {
	cfg, err := c.load()
	if err != nil {
		return nil, err
	}
	log, err := telemetry.NewLogger(std.err, "warn", cfg.Log.Format)
	if err != nil {
		return nil, err
	}
	client, err := kafka.Dial(kafkaConfig(&cfg.Kafka), log)
	if err != nil {
		return nil, &exitError{code: exitConfig, err: err}
	}
	producer, err := kafka.NewProducer(client, kafka.ProducerOptions{Compression: cfg.Kafka.Compression})
	if err != nil {
		client.Close()
		return nil, err
	}
	j := &journal{client: client, steps: make(map[string][]*schemas.Action), close: func() {
		ctx, cancel := context.WithTimeout(context.Background(), cfg.ShutdownTimeout.Std())
		defer cancel()
		_ = producer.Close(ctx) // everything is acknowledged by then
		client.Close()
	}}
	topic, err := tail.Open(ctx, client, schemas.TopicActions, log)
	if err == nil {
		j.log = actionlog.New(producer, topic.Partitions())
		err = topic.Load(ctx, j.take)
	}
	if err != nil {
		j.close()
		return nil, &exitError{code: exitFailed, err: err, try: "tocsin actions --config FILE, with kafka.brokers, or tocsin run to create the topic"}
	}
	return j, nil
}

func (j *journal) take(rec *kafka.FetchedRecord) error {
	a, err := actionlog.Parse(rec.Value)
	if err != nil {
		return nil //nolint:nilerr // what is no action is somebody else's, and must not hide the others
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.steps[a.ID] = append(j.steps[a.ID], a)
	return nil
}

// last returns the newest step of an action. A request that is repeated after a
// restart says nothing new.
func last(steps []*schemas.Action) *schemas.Action {
	for _, a := range slices.Backward(steps) {
		if a.State != schemas.ActionRequested {
			return a
		}
	}
	return steps[0]
}

// newest returns the newest step of every action, the newest first.
func (j *journal) newest() []*schemas.Action {
	all := make([]*schemas.Action, 0, len(j.steps))
	for _, steps := range j.steps {
		all = append(all, last(steps))
	}
	slices.SortFunc(all, func(a, b *schemas.Action) int {
		if c := b.Time.Compare(a.Time); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// find returns the steps of the action whose ID begins with id.
func (j *journal) find(id string) ([]*schemas.Action, error) {
	var found []*schemas.Action
	for full, steps := range j.steps {
		if full == id {
			return steps, nil
		}
		if strings.HasPrefix(full, id) {
			if found != nil {
				return nil, &exitError{code: exitFailed, err: fmt.Errorf("several actions begin with %s", id), try: "tocsin actions list --json | jq -r .id"}
			}
			found = steps
		}
	}
	if found == nil || id == "" {
		return nil, &exitError{code: exitFailed, err: fmt.Errorf("there is no action %q", id), try: "tocsin actions list"}
	}
	return found, nil
}

type actionsListCmd struct {
	journalFlags
	State string `placeholder:"STATE" help:"Only these: pending, planned, started, waiting, done, failed, refused, expired, rejected, ..."`
	Sink  string `placeholder:"NAME" help:"Only those of this sink."`
	Limit int    `default:"50" placeholder:"N" help:"At most N; 0 for all."`
}

// Help returns what --help prints below the usage.
func (actionsListCmd) Help() string {
	return `Automated responses are in the topic tocsin.actions: what a detection asked for, what was decided, what was done, and
why. The list has the newest step of each; a state that is a reason (allow_list, breaker_open, ...) says why it was refused
or failed.

Examples:

    tocsin actions list --state pending
    tocsin actions list --json | jq -r 'select(.state == "failed") | .error'`
}

// Run runs the command.
func (c *actionsListCmd) Run(std streams) error {
	j, err := c.openJournal(context.Background(), std)
	if err != nil {
		return err
	}
	defer j.close()
	all := slices.DeleteFunc(j.newest(), func(a *schemas.Action) bool {
		return c.State != "" && a.State != c.State || c.Sink != "" && a.Sink != c.Sink
	})
	more := 0
	if c.Limit > 0 && len(all) > c.Limit {
		all, more = all[:c.Limit], len(all)-c.Limit
	}
	if c.JSON {
		return writeLines(std.out, all)
	}
	if len(all) == 0 {
		_, err = fmt.Fprintln(std.out, "no actions")
		return err
	}
	if err := writeActions(std.out, all); err != nil {
		return err
	}
	if more > 0 {
		fmt.Fprintf(std.err, "and %s more: tocsin actions list --limit 0\n", grouped(int64(more)))
	}
	return nil
}

func writeLines(w io.Writer, all []*schemas.Action) error {
	encoder := json.NewEncoder(w)
	for _, a := range all {
		if err := encoder.Encode(a); err != nil {
			return err
		}
	}
	return nil
}

// Widths of columns; with them the table fits 100 columns.
const (
	actionIDWidth     = 8
	actionTargetWidth = 26
	actionRuleWidth   = 20
)

func writeActions(w io.Writer, all []*schemas.Action) error {
	t := table{head: []string{"id", "time", "kind", "state", "target", "rule"}}
	for _, a := range all {
		state, target := a.State, shortTarget(a)
		if a.Code != "" {
			state = a.Code
		}
		id := a.ID[:min(len(a.ID), actionIDWidth)]
		if a.Kind == schemas.KindBreaker {
			id, target = "-", a.Sink
		}
		t.add(id, shortTime(a.Time.UnixMilli()), a.Kind, state, clip(target, actionTargetWidth), clip(a.Rule, actionRuleWidth))
	}
	return t.write(w)
}

// shortTarget is what a person knows a device by.
func shortTarget(a *schemas.Action) string {
	for _, name := range []string{a.Thing, a.ClientID, a.Device} {
		if name != "" {
			return name
		}
	}
	return a.CertificateID
}

type actionsShowCmd struct {
	journalFlags
	ID string `arg:"" help:"The ID, or as much of its beginning as is needed."`
}

// Help returns what --help prints below the usage.
func (actionsShowCmd) Help() string {
	return `Example:

    tocsin actions show 4f1c22a0`
}

// Run runs the command.
func (c *actionsShowCmd) Run(std streams) error {
	j, err := c.openJournal(context.Background(), std)
	if err != nil {
		return err
	}
	defer j.close()
	steps, err := j.find(c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeLines(std.out, steps)
	}
	return writeSteps(std.out, steps)
}

func writeSteps(w io.Writer, steps []*schemas.Action) error {
	a := last(steps)
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-16s %s\n", name, value)
		}
	}
	line("id", a.ID)
	line("sink", a.Sink)
	line("action", a.Kind)
	line("client", a.ClientID)
	line("thing", a.Thing)
	line("certificate", a.CertificateID)
	line("new certificate", a.NewCertificateID)
	line("job", a.JobID)
	line("rule", strings.TrimSpace(a.Rule+" "+a.RuleID))
	line("detection", a.DetectionID)
	b.WriteByte('\n')
	for _, s := range steps {
		fmt.Fprintf(&b, "%s  %-9s %s\n", s.Time.UTC().Format(time.DateTime), s.State, s.Reason)
		for _, detail := range []struct{ name, value string }{{"code", s.Code}, {"error", s.Error}, {"by", s.Approver}} {
			if detail.value != "" {
				fmt.Fprintf(&b, "%31s%s: %s\n", "", detail.name, detail.value)
			}
		}
		if !s.Deadline.IsZero() {
			fmt.Fprintf(&b, "%31suntil: %s\n", "", s.Deadline.UTC().Format(time.DateTime))
		}
	}
	switch a.State {
	case schemas.ActionPending:
		fmt.Fprintf(&b, "\ntocsin actions approve %s, or reject\n", a.ID[:min(len(a.ID), actionIDWidth)])
	case schemas.ActionOpened:
		fmt.Fprintf(&b, "\ntocsin actions resume %s\n", a.Sink)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

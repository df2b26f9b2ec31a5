package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/tocsin-io/tocsin/internal/actionlog"
	"github.com/tocsin-io/tocsin/schemas"
)

// answerFlags are those of what a person decides.
type answerFlags struct {
	journalFlags
	Reason string `placeholder:"TEXT" help:"Why, for the audit log."`
	By     string `placeholder:"NAME" help:"Who; default the user and the machine."`
}

// approver is who decides.
func (c *answerFlags) approver() string {
	if c.By != "" {
		return c.By
	}
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// answer writes a person's decision about an action that waits for one.
func (c *answerFlags) answer(std streams, id, state string) error {
	ctx := context.Background()
	j, err := c.openJournal(ctx, std)
	if err != nil {
		return err
	}
	defer j.close()
	steps, err := j.find(id)
	if err != nil {
		return err
	}
	a := *last(steps)
	now := time.Now().UTC()
	switch {
	case a.State != schemas.ActionPending:
		err = fmt.Errorf("action %s does not wait for approval: it is %s", a.ID, a.State)
	case !now.Before(a.Deadline):
		err = fmt.Errorf("action %s waited for approval until %s; it is too late", a.ID, a.Deadline.UTC().Format(time.DateTime))
	}
	if err != nil {
		return &exitError{code: exitFailed, err: err, try: "tocsin actions show " + a.ID}
	}
	a.State, a.Time, a.Approver, a.Reason = state, now, c.approver(), c.Reason
	if a.Reason == "" {
		a.Reason = state + " by " + a.Approver
	}
	return c.write(ctx, std, j, &a, fmt.Sprintf("%s: %s of %s", state, a.Kind, actionlog.Target(&a)))
}

// write appends a step and says so.
func (c *answerFlags) write(ctx context.Context, std streams, j *journal, a *schemas.Action, text string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := j.log.Append(ctx, a); err != nil {
		return fmt.Errorf("nothing was decided: %w", err)
	}
	if c.JSON {
		return writeLines(std.out, []*schemas.Action{a})
	}
	_, err := fmt.Fprintln(std.out, text)
	return err
}

// answerTimeout is how long Kafka may take to acknowledge a decision.
const answerTimeout = 30 * time.Second

type actionsApproveCmd struct {
	answerFlags
	ID string `arg:"" help:"The ID, or as much of its beginning as is needed."`
}

// Help returns what --help prints below the usage.
func (actionsApproveCmd) Help() string {
	return `The sink does what waits for approval as soon as it reads this, and the breaker and the rates allow it.

Example:

    tocsin actions approve 4f1c22a0 --reason "spoke to the site"`
}

// Run runs the command.
func (c *actionsApproveCmd) Run(std streams) error {
	return c.answer(std, c.ID, schemas.ActionApproved)
}

type actionsRejectCmd struct {
	answerFlags
	ID string `arg:"" help:"The ID, or as much of its beginning as is needed."`
}

// Help returns what --help prints below the usage.
func (actionsRejectCmd) Help() string {
	return `Example:

    tocsin actions reject 4f1c22a0 --reason "a test device"`
}

// Run runs the command.
func (c *actionsRejectCmd) Run(std streams) error {
	return c.answer(std, c.ID, schemas.ActionRejected)
}

type actionsResumeCmd struct {
	answerFlags
	Sink string `arg:"" help:"Name of the sink under sinks.awsiot."`
}

// Help returns what --help prints below the usage.
func (actionsResumeCmd) Help() string {
	return `A breaker opens when more of the fleet would be touched within an hour than sinks.awsiot.max_share_per_hour. Look first
at what opened it, with tocsin actions list. What was refused meanwhile is not done afterwards; new detections are acted
on again, and the count begins at zero.

Example:

    tocsin actions resume prod --reason "the rule is fixed"`
}

// Run runs the command.
func (c *actionsResumeCmd) Run(std streams) error {
	ctx := context.Background()
	j, err := c.openJournal(ctx, std)
	if err != nil {
		return err
	}
	defer j.close()
	steps := j.steps[actionlog.BreakerID(c.Sink)]
	switch {
	case len(steps) == 0:
		err = fmt.Errorf("the breaker of %q never opened", c.Sink)
	case steps[len(steps)-1].State == schemas.ActionResumed:
		err = errors.New("the breaker was resumed already, " + steps[len(steps)-1].Time.UTC().Format(time.DateTime))
	}
	if err != nil {
		return &exitError{code: exitFailed, err: err, try: "tocsin actions list"}
	}
	reason := c.Reason
	if reason == "" {
		reason = "resumed by " + c.approver()
	}
	a := actionlog.Breaker(c.Sink, schemas.ActionResumed, reason, c.approver(), time.Now().UTC())
	return c.write(ctx, std, j, a, "the breaker of "+c.Sink+" is closed; what it refused is not done")
}

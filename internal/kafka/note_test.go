package kafka_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/testkit"
)

func TestNote(t *testing.T) {
	t.Parallel()
	eachBroker(t, func(t *testing.T, brokers []string) {
		c := dial(t, brokers...)
		topic := "note" + run
		ensureTopics(t, c, kafka.TopicSpec{Name: topic, Partitions: 1})
		opts := kafka.GroupOptions{GroupID: "note" + run, Topics: []string{topic}}
		commit := func(ctx context.Context, a *kafka.Assignment, offset int64, note string) {
			t.Helper()
			if err := a.CommitNote(ctx, offset, note); err != nil {
				t.Errorf("commit %d %q: %v", offset, note, err)
			}
		}
		expect := func(ctx context.Context, a *kafka.Assignment, offset int64, want string) {
			t.Helper()
			got, err := a.Note(ctx)
			if err != nil || got != want || a.Committed != offset {
				t.Errorf("%q at %d, %v; want %q at %d", got, a.Committed, err, want, offset)
			}
		}
		long := strings.Repeat("n", kafka.MaxNote)
		runHandler(t, c, opts, func(ctx context.Context, a *kafka.Assignment) error {
			expect(ctx, a, -1, "")
			commit(ctx, a, 0, "first")
			commit(ctx, a, 5, "second")
			commit(ctx, a, 4, "never back")
			commit(ctx, a, 5, long) // the same offset, another note
			return nil
		})
		runHandler(t, c, opts, func(ctx context.Context, a *kafka.Assignment) error {
			expect(ctx, a, 5, long)
			commit(ctx, a, 6, "")
			return nil
		})
		runHandler(t, c, opts, func(ctx context.Context, a *kafka.Assignment) error {
			expect(ctx, a, 6, "")
			return nil
		})
	})
}

func TestNoteOfAnOldGenerationIsFenced(t *testing.T) {
	broker := testkit.KafkaFake(t)
	c := dial(t, broker.ListenAddrs()...)
	ensureTopics(t, c, kafka.TopicSpec{Name: "in", Partitions: 1})
	runHandler(t, c, kafka.GroupOptions{GroupID: "g", Topics: []string{"in"}}, func(ctx context.Context, a *kafka.Assignment) error {
		broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.IllegalGeneration})
		if err := a.CommitNote(ctx, 5, "x"); !errors.Is(err, kafka.ErrFenced) || kafka.Reason(err) != kafka.ReasonFenced {
			t.Errorf("commit: %v", err)
		}
		// The refused commit was not taken for done.
		if err := a.CommitNote(ctx, 5, "x"); err != nil {
			t.Errorf("second commit: %v", err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := a.CommitNote(ended, 6, ""); !errors.Is(err, context.Canceled) {
			t.Errorf("commit with an ended context: %v", err)
		}
		drain, done := a.Drain(ended)
		defer done()
		if err := a.CommitNote(drain, 7, "last"); err != nil {
			t.Errorf("commit while draining: %v", err)
		}
		late, over := context.WithDeadline(ctx, time.Now())
		defer over()
		if _, err := a.Note(late); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("note with an ended context: %v", err)
		}
		return nil
	})
}

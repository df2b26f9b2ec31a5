package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/telemetry"
)

type tapCmd struct {
	configFlags
	Topic     string `arg:"" default:"events" help:"events, matches, detections, deadletter, identities, actions, state, or any topic's full name."`
	From      string `default:"earliest" placeholder:"WHERE" help:"earliest, latest, or an offset."`
	Partition int    `default:"-1" placeholder:"N" help:"Only this partition; -1 for all."`
	Limit     int64  `default:"0" placeholder:"N" help:"Stop after N lines; 0 for no limit."`
	Follow    bool   `short:"f" help:"Wait for more at the end."`
}

// Help returns what --help prints below the usage.
func (tapCmd) Help() string {
	return `Each line is one event, match, detection or dead letter, with the partition and offset of its record. Lines of one
partition are in its order; partitions are mixed. Without --follow it ends at what was there when it began.

Examples:

    tocsin tap events --limit 10
    tocsin tap detections --follow | jq .detection.message
    tocsin tap deadletter --from latest --follow
    tocsin tap events --partition 3 --from 12000 --limit 1`
}

// Run runs the command.
func (c *tapCmd) Run(std streams) error {
	from, err := parseOffset(c.From)
	if err != nil {
		return &exitError{code: exitUsage, err: err, try: "tocsin tap --help"}
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	log, err := telemetry.NewLogger(std.err, "warn", cfg.Log.Format)
	if err != nil {
		return err
	}
	a := &app{std: std, cfg: cfg, log: log}
	ctx, cancel := a.signals()
	defer cancel()
	client, err := kafka.Dial(kafkaConfig(&cfg.Kafka), log)
	if err != nil {
		return &exitError{code: exitConfig, err: err}
	}
	defer client.Close()
	t := &tap{client: client, topic: topicName(c.Topic), follow: c.Follow, out: &lineWriter{w: bufio.NewWriterSize(std.out, 1<<16), left: limit(c.Limit)}}
	err = t.run(ctx, c.Partition, from)
	if errors.Is(err, errEnough) || ctx.Err() != nil {
		return nil
	}
	return err
}

// Offsets that are not offsets.
const (
	offsetEarliest = -2
	offsetLatest   = -1
)

func parseOffset(s string) (int64, error) {
	switch s {
	case "earliest":
		return offsetEarliest, nil
	case "latest":
		return offsetLatest, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("--from %q: want earliest, latest or an offset", s)
	}
	return n, nil
}

// topicName completes the short names; a name with a dot is taken as it is.
func topicName(s string) string {
	if strings.Contains(s, ".") {
		return s
	}
	return "tocsin." + s
}

func limit(n int64) int64 {
	if n <= 0 {
		return math.MaxInt64
	}
	return n
}

// tap prints a topic.
type tap struct {
	client *kafka.Client
	topic  string
	follow bool
	out    *lineWriter
}

func (t *tap) run(ctx context.Context, partition int, from int64) error {
	n, err := t.client.Partitions(ctx, t.topic)
	if err != nil {
		return &exitError{code: exitFailed, err: err, try: "tocsin tap --help for the topics, or tocsin run to create them"}
	}
	first, last := 0, n
	if partition >= 0 {
		if partition >= n {
			return &exitError{code: exitUsage, err: fmt.Errorf("topic %s has no partition %d; there are %d", t.topic, partition, n)}
		}
		first, last = partition, partition+1
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for p := first; p < last; p++ {
		wg.Go(func() {
			if err := t.partition(ctx, p, from); err != nil {
				cancel(err) // the first one stays
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return nil
}

func (t *tap) partition(ctx context.Context, partition int, from int64) error {
	end, err := t.client.LastOffset(ctx, t.topic, partition)
	if err != nil {
		return err
	}
	oldest, err := t.client.FirstOffset(ctx, t.topic, partition)
	if err != nil {
		return err
	}
	next := max(from, oldest)
	if from == offsetLatest {
		next = end
	}
	printer := recordPrinter{topic: t.topic, partition: partition, out: t.out}
	var buf kafka.FetchBuffer
	for t.follow || next < end {
		batch, err := t.client.FetchFrom(ctx, t.topic, partition, next, &buf)
		if err != nil {
			return err
		}
		for i := range batch.Records {
			if r := &batch.Records[i]; t.follow || r.Offset < end {
				if err := printer.print(r); err != nil {
					return err
				}
			}
		}
		if t.follow {
			if err := t.out.Flush(); err != nil {
				return err
			}
		}
		next = batch.Next
	}
	return t.out.Flush()
}

var errEnough = errors.New("enough lines")

// lineWriter lets the partitions take turns at the output, a line at a time.
type lineWriter struct {
	mu   sync.Mutex
	w    *bufio.Writer
	left int64
}

func (l *lineWriter) line(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left == 0 {
		return errEnough
	}
	l.left--
	if _, err := l.w.Write(append(b, '\n')); err != nil {
		return err
	}
	if l.left == 0 {
		return errors.Join(errEnough, l.w.Flush())
	}
	return nil
}

func (l *lineWriter) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Flush()
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/internal/simulate"
	"github.com/tocsin-io/tocsin/internal/telemetry"
)

type generateCmd struct {
	To            string        `default:"stdout" placeholder:"URL" help:"stdout for JSON lines, or the URL of tocsin ingest: http://127.0.0.1:8443"`
	FirehosePath  string        `default:"/firehose" help:"ingest.firehose.path of the receiver."`
	EventsPath    string        `default:"/v1/events" help:"ingest.firehose.events_path of the receiver."`
	AccessKey     string        `env:"TOCSIN_ACCESS_KEY" placeholder:"KEY" help:"One of ingest.firehose.access_keys."`
	Devices       int           `default:"2000" help:"Devices in the fleet."`
	Duration      time.Duration `default:"30m" help:"Event time to simulate."`
	Seed          uint64        `default:"1" help:"The same seed gives the same fleet doing the same."`
	Speed         float64       `default:"0" help:"Seconds of event time in a second: 1 plays live, 0 as fast as it goes. The last event happens now."`
	Rate          float64       `default:"0" help:"Log lines per second; the devices become as busy as that needs. 0 leaves them as they are, about 0.2 each."`
	Attacks       bool          `default:"true" negatable:"" help:"Hide six attacks in the benign traffic."`
	Labels        string        `placeholder:"FILE" help:"Write what the attacks are to FILE, as JSON."`
	Prepare       bool          `help:"Encode everything in memory first, then send --rate events per second: a load generator that takes little CPU."`
	Connections   int           `default:"4" help:"Requests sent at once."`
	OuterGzip     bool          `help:"Compress request bodies, as Firehose does when content encoding is enabled."`
	LogDuplicates float64       `default:"0.0005" help:"Share of log lines that CloudWatch delivers twice."`
}

// Help returns what --help prints below the usage.
func (generateCmd) Help() string {
	return `Plays a fleet: sensors, pumps, meters, gateways, cameras and trackers with their certificates, in AWSIotLogsV2 log lines,
lifecycle events, CloudTrail records and GuardDuty findings. To a URL it sends what AWS would send: gzipped CloudWatch Logs
subscription payloads in Firehose requests, repeated until they are accepted, and EventBridge events.

Examples:

    tocsin generate --devices 100 --duration 10m | head
    tocsin generate --to http://127.0.0.1:8443 --speed 60 --labels attacks.json
    tocsin generate --to http://127.0.0.1:8443 --devices 100000 --rate 20000 --speed 1 --no-attacks
    tocsin generate --to http://127.0.0.1:8443 --devices 100000 --duration 1m --rate 50000 --prepare --no-attacks`
}

// Run runs the command.
func (c *generateCmd) Run(std streams) error {
	ctx, cancel := (&app{std: std}).signals()
	defer cancel()
	sim, err := simulate.New(c.options())
	if err != nil {
		return &exitError{code: exitUsage, err: err, try: "tocsin generate --help"}
	}
	if c.Labels != "" {
		if err := writeLabels(c.Labels, sim.Labels()); err != nil {
			return err
		}
	}
	if c.To == "stdout" || c.To == "-" {
		return c.print(ctx, std, sim)
	}
	return c.send(ctx, std, sim)
}

func (c *generateCmd) options() simulate.Options {
	opts := simulate.Options{Seed: c.Seed, Devices: c.Devices, Duration: c.Duration, Rate: c.Rate, Attacks: c.Attacks}
	playing := time.Duration(0)
	if c.Speed > 0 {
		playing = time.Duration(float64(c.Duration) / c.Speed)
		// A rate is one of real time.
		opts.Rate = c.Rate / c.Speed
	}
	opts.Start = time.Now().Add(playing - c.Duration)
	return opts
}

func writeLabels(path string, labels []simulate.Label) error {
	if labels == nil {
		labels = []simulate.Label{}
	}
	b, err := json.MarshalIndent(labels, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// print writes every record as a line, in the order in which things happen.
func (c *generateCmd) print(ctx context.Context, std streams, sim *simulate.Simulator) error {
	w := bufio.NewWriterSize(std.out, 1<<18)
	began, first := time.Now(), sim.Start()
	for records := sim.Step(); records != nil && ctx.Err() == nil; records = sim.Step() {
		if c.Speed > 0 {
			at := time.UnixMilli(records[0].Time)
			wait := time.Until(began.Add(time.Duration(float64(at.Sub(first)) / c.Speed)))
			if wait > time.Millisecond {
				if err := w.Flush(); err != nil {
					return err
				}
				select {
				case <-ctx.Done():
				case <-time.After(wait):
				}
			}
		}
		for i := range records {
			if _, err := w.Write(append(records[i].Data, '\n')); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}

func (c *generateCmd) target() (simulate.Target, error) {
	u, err := url.Parse(c.To)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return simulate.Target{}, &exitError{
			code: exitUsage, try: "tocsin generate --help",
			err: fmt.Errorf("--to %q: want stdout or a URL like http://127.0.0.1:8443", c.To),
		}
	}
	base := u.Scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/")
	return simulate.Target{
		FirehoseURL: base + c.FirehosePath, EventsURL: base + c.EventsPath,
		AccessKey: c.AccessKey, OuterGzip: c.OuterGzip,
	}, nil
}

func (c *generateCmd) send(ctx context.Context, std streams, sim *simulate.Simulator) error {
	target, err := c.target()
	if err != nil {
		return err
	}
	log, err := telemetry.NewLogger(std.err, "info", "auto")
	if err != nil {
		return err
	}
	logs := simulate.LogOptions{Duplicates: c.LogDuplicates}
	if c.LogDuplicates == 0 {
		logs.Duplicates = -1
	}
	opts := simulate.PlayOptions{Target: target, Logs: logs, Speed: c.Speed, Connections: c.Connections, Log: log}
	var ledger simulate.Ledger
	began := time.Now()
	if c.Prepare {
		p, perr := simulate.Prepare(sim, logs)
		if perr != nil {
			return perr
		}
		fmt.Fprintf(std.err, "prepared %d events in %s\n", p.Events(), time.Since(began).Round(time.Millisecond))
		began = time.Now()
		opts.Rate, opts.Speed = c.Rate, 0
		err = p.Play(ctx, opts, &ledger)
	} else {
		err = simulate.Play(ctx, sim, opts, &ledger)
	}
	took := time.Since(began)
	t := ledger.Totals()
	fmt.Fprintf(std.err, "%d events accepted (%d distinct) in %s, %.0f/s; %d requests, %d retries, %d lost\n",
		t.Events, t.Distinct, took.Round(time.Millisecond), float64(t.Events)/took.Seconds(), t.Requests, t.Retries, t.Lost)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	if err == nil && t.Lost > 0 {
		err = fmt.Errorf("%d events were not accepted", t.Lost)
	}
	return err
}

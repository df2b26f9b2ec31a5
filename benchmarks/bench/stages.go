package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// stageOf says whose work a sample of the CPU profile is: that of the first of
// these groups that has a part of a frame's name, and in it of the frame nearest
// to the goroutine's beginning. What a stage calls is so the stage's own: that
// the ClickHouse sink decodes batches is the price of the sink. The later groups
// are for what runs on goroutines of its own, for all stages.
var stageOf = [][]struct{ part, stage string }{
	{
		{"tocsin/ingest/firehose.", "ingest: HTTP"},
		{"tocsin/ingest.", "ingest: decode and encode"},
		{"tocsin/correlate.", "correlate"},
		{"tocsin/sinks/clickhouse.", "sink: ClickHouse"},
		{"tocsin/sinks/webhook.", "sink: webhook"},
		{"franz-go/pkg/kfake.", "broker (embedded)"},
		{"tocsin/internal/embedded/broker.", "broker (embedded)"},
		{"tocsin/internal/embedded/clickhouse.", "engine's parent side"},
	},
	{
		{"tocsin/sinks.", "sinks: reading"},
	},
	{
		{"tocsin/internal/kafka.", "Kafka client"},
		{"segmentio/kafka-go", "Kafka client"},
		{"net/http.(*conn).serve", "ingest: HTTP"},
		{"net/http.", "HTTP clients"},
	},
	{
		{"runtime.gcBgMarkWorker", "garbage collector"},
		{"runtime.bgsweep", "garbage collector"},
		{"runtime.bgscavenge", "garbage collector"},
		{"runtime.mcall", "scheduler"},
		{"runtime.mstart", "scheduler"},
		{"runtime.morestack", "scheduler"},
		{"runtime.goexit0", "scheduler"},
	},
}

// profileCPU takes a CPU profile of the program and keeps it under name.
func (b *bench) profileCPU(ctx context.Context, t *tocsin, d time.Duration, name string) (*profile.Profile, error) {
	body, err := b.fetchProfile(ctx, t, fmt.Sprintf("profile?seconds=%d", max(int(d.Seconds()), 1)), name+".cpu.pb.gz")
	if err != nil {
		return nil, err
	}
	return profile.Parse(bytes.NewReader(body))
}

// profileHeap keeps a profile of the heap.
func (b *bench) profileHeap(ctx context.Context, t *tocsin, name string) error {
	if b.profiles == "" {
		return nil
	}
	_, err := b.fetchProfile(ctx, t, "heap", name+".heap.pb.gz")
	return err
}

func (b *bench) fetchProfile(ctx context.Context, t *tocsin, which, file string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.admin+"/debug/pprof/"+which, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("profile: %s: %.200s", res.Status, body)
	}
	if b.profiles != "" {
		if err := os.MkdirAll(b.profiles, 0o755); err != nil {
			return nil, err
		}
		err = os.WriteFile(filepath.Join(b.profiles, file), body, 0o644)
	}
	return body, err
}

// stageShares returns each stage's share of a profile's CPU time.
func stageShares(p *profile.Profile) map[string]float64 {
	value := len(p.SampleType) - 1 // cpu nanoseconds; before it are sample counts
	shares, total := map[string]float64{}, 0.0
	for _, s := range p.Sample {
		v := float64(s.Value[value])
		shares[stageOfStack(s.Location)] += v
		total += v
	}
	for k := range shares {
		shares[k] /= max(total, 1)
	}
	return shares
}

func stageOfStack(stack []*profile.Location) string {
	for _, group := range stageOf {
		for i := len(stack) - 1; i >= 0; i-- {
			lines := stack[i].Line
			for j := len(lines) - 1; j >= 0; j-- { // the caller of what was inlined is last
				if lines[j].Function == nil {
					continue
				}
				for _, s := range group {
					if strings.Contains(lines[j].Function.Name, s.part) {
						return s.stage
					}
				}
			}
		}
	}
	return "other"
}

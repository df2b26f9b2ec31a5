package behavior

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/internal/kafka"
	"github.com/tocsin-io/tocsin/internal/watermark"
)

// Options of a Service. Client, Producer and Logger are needed; a zero value takes
// the default.
type Options struct {
	Client   *kafka.Client
	Producer Sender
	// GroupID is the consumer group. Default "tocsin-behavior".
	GroupID string
	// Interval that a datapoint is about. Default 5 min; whole seconds.
	Interval time.Duration
	// Learning is how long a device must have been known before its values are scored,
	// and how far back its baseline looks. Default 7 days.
	Learning time.Duration
	// MaxDevices bounds the devices that are remembered for each partition, and the
	// certificates. Default 200,000; about 1 KB each.
	MaxDevices int
	// SilenceFactor is how many times its usual pause a device or a source must be
	// quiet to be silent. Default 4.
	SilenceFactor float64
	// SilenceFloor is the least time after which a device or source is silent. Default
	// 15 min.
	SilenceFloor time.Duration
	// SilenceIntervals is how many intervals a device must have been active in before it
	// can be silent. Default 12.
	SilenceIntervals int
	// ObserveInterval is how often what is known of a certificate is written when
	// nothing but the time changed. Default 1 h.
	ObserveInterval time.Duration
	// MaxRecords bounds the records of devices that a partition writes in a second, by
	// the clock. Default 500.
	MaxRecords int
	// FleetInterval is how often a partition says how far it has come. Default 1 min.
	FleetInterval time.Duration
	// LeastFleet is how many devices a fleet must have for percentiles. Default 20.
	LeastFleet int
	// Watermark says how late and how idle inputs may be.
	Watermark  watermark.Options
	Logger     *zap.Logger
	Registerer prometheus.Registerer
	// Group tunes the membership; topics and ID are set here.
	Group kafka.GroupOptions
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Sender appends records to partitions of topics. *kafka.Producer is one.
type Sender interface {
	// ProduceAsync must keep the order of one caller's records to one partition, must
	// call done once for each, from any goroutine, and may block while it is full. The
	// record's memory is its own from then on.
	ProduceAsync(ctx context.Context, topic string, partition int, rec kafka.Record, done func(offset int64, err error))
}

// The defaults of Options.
const (
	DefaultGroupID          = "tocsin-behavior"
	DefaultInterval         = 5 * time.Minute
	DefaultLearning         = 7 * 24 * time.Hour
	DefaultMaxDevices       = 200_000
	DefaultSilenceFactor    = 4
	DefaultSilenceFloor     = 15 * time.Minute
	DefaultSilenceIntervals = 12
	DefaultObserveInterval  = time.Hour
	DefaultMaxRecords       = 500
)

func (o Options) withDefaults() Options {
	if o.GroupID == "" {
		o.GroupID = DefaultGroupID
	}
	setDefault(&o.Interval, DefaultInterval)
	setDefault(&o.Learning, DefaultLearning)
	setDefault(&o.MaxDevices, DefaultMaxDevices)
	setDefault(&o.SilenceFactor, DefaultSilenceFactor)
	setDefault(&o.SilenceFloor, DefaultSilenceFloor)
	setDefault(&o.SilenceIntervals, DefaultSilenceIntervals)
	setDefault(&o.ObserveInterval, DefaultObserveInterval)
	setDefault(&o.MaxRecords, DefaultMaxRecords)
	setDefault(&o.FleetInterval, time.Minute)
	setDefault(&o.LeastFleet, 20)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func setDefault[T ~int | ~int64 | ~float64](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

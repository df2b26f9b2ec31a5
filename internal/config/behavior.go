package config

import "time"

// Behavior is what runs beside the correlator: what devices do in an interval,
// compared with the fleet and with their past.
type Behavior struct {
	Enabled         bool     `yaml:"enabled"`
	GroupID         string   `yaml:"group_id"`
	Interval        Duration `yaml:"interval"`
	Learning        Duration `yaml:"learning"`       // before which nothing is scored
	MaxDevices      int      `yaml:"max_devices"`    // per partition
	SilenceFactor   float64  `yaml:"silence_factor"` // times the usual pause
	SilenceFloor    Duration `yaml:"silence_floor"`
	ObserveInterval Duration `yaml:"observe_interval"` // between two records of a certificate that only was seen again
	MaxRecords      int      `yaml:"max_records"`      // of devices, written per second and partition
}

func defaultBehavior() Behavior {
	return Behavior{
		Enabled:         true,
		GroupID:         "tocsin-behavior",
		Interval:        Duration(5 * time.Minute),
		Learning:        Duration(7 * 24 * time.Hour),
		MaxDevices:      200_000,
		SilenceFactor:   4,
		SilenceFloor:    Duration(15 * time.Minute),
		ObserveInterval: Duration(time.Hour),
		MaxRecords:      500,
	}
}

func (v *validator) behavior(c *Behavior) {
	if !c.Enabled {
		return
	}
	if c.GroupID == "" {
		v.bad("behavior.group_id", "must not be empty")
	}
	between(v, "behavior.interval", c.Interval, Duration(time.Minute), Duration(time.Hour))
	if c.Interval%Duration(time.Second) != 0 {
		v.bad("behavior.interval", "is %v; want whole seconds", c.Interval)
	}
	between(v, "behavior.learning", c.Learning, c.Interval, Duration(90*24*time.Hour))
	between(v, "behavior.max_devices", c.MaxDevices, 100, 50_000_000)
	if !(c.SilenceFactor >= 1 && c.SilenceFactor <= 1000) {
		v.bad("behavior.silence_factor", "is %v; want 1 to 1000", c.SilenceFactor)
	}
	between(v, "behavior.silence_floor", c.SilenceFloor, c.Interval, Duration(30*24*time.Hour))
	between(v, "behavior.observe_interval", c.ObserveInterval, Duration(time.Minute), Duration(30*24*time.Hour))
	between(v, "behavior.max_records", c.MaxRecords, 1, 1_000_000)
}

package main

import (
	"context"
	"fmt"

	"github.com/tocsin-io/tocsin/correlate/behavior"
	"github.com/tocsin-io/tocsin/internal/watermark"
)

// startBehavior starts what tells how devices behave. It runs where the correlator
// does and sees event time as that does.
func (p *plant) startBehavior() {
	c := &p.cfg.Behavior
	service := behavior.New(behavior.Options{
		Client: p.client, Producer: p.producer, GroupID: c.GroupID,
		Interval: c.Interval.Std(), Learning: c.Learning.Std(), MaxDevices: c.MaxDevices,
		SilenceFactor: c.SilenceFactor, SilenceFloor: c.SilenceFloor.Std(),
		ObserveInterval: c.ObserveInterval.Std(), MaxRecords: c.MaxRecords,
		Watermark: watermark.Options{Disorder: p.cfg.Correlate.Disorder.Std(), Idle: p.cfg.Correlate.Idle.Std()},
		Logger:    p.log.Named("behavior"), Registerer: p.metrics,
	})
	p.life.Go("behavior", true, service.Run)
	p.checks.Add("behavior", func(context.Context) error {
		if !service.Joined() {
			return fmt.Errorf("not a member of group %s yet", c.GroupID)
		}
		return nil
	})
}

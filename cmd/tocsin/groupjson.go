package main

import (
	"time"

	"github.com/tocsin-io/tocsin/correlate"
	"github.com/tocsin-io/tocsin/rules"
)

// groupJSON is the JSON form of a group's state.
type groupJSON struct {
	Group      map[string]string `json:"group"`
	Events     int               `json:"events"`
	First      time.Time         `json:"first"`
	Last       time.Time         `json:"last"`
	Window     windowJSON        `json:"closest_window"`
	Detections []episodeJSON     `json:"detections,omitempty"`
}

type windowJSON struct {
	First   time.Time      `json:"first"`
	Last    time.Time      `json:"last"`
	Events  int            `json:"events"`
	Value   float64        `json:"value"`
	Rules   map[string]int `json:"rules,omitempty"`
	Holds   bool           `json:"holds"`
	Decided bool           `json:"decided"`
}

type episodeJSON struct {
	ID         string    `json:"detection_id"`
	State      string    `json:"state"`
	Count      int64     `json:"count"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
	Suppressed bool      `json:"suppressed,omitempty"`
}

func groupsJSON(c *rules.Correlation, groups []correlate.GroupState) []groupJSON {
	at := func(millis int64) time.Time { return time.UnixMilli(millis).UTC() }
	out := []groupJSON{}
	for _, g := range groups {
		j := groupJSON{
			Group: map[string]string{}, Events: g.Events, First: at(g.First), Last: at(g.Last),
			Window: windowJSON{
				First: at(g.Closest.First), Last: at(g.Closest.Last), Events: g.Closest.Events,
				Value: g.Closest.Value, Holds: g.Closest.Holds, Decided: g.Closest.Decided,
			},
		}
		for i, name := range c.GroupBy {
			if i < len(g.Group) {
				j.Group[name] = g.Group[i]
			}
		}
		for i, n := range g.Closest.Steps {
			if j.Window.Rules == nil {
				j.Window.Rules = map[string]int{}
			}
			j.Window.Rules[c.Steps[i].Name] = n
		}
		for _, ep := range g.Episodes {
			j.Detections = append(j.Detections, episodeJSON{ep.ID.String(), ep.State, ep.Count, at(ep.First), at(ep.Last), ep.Suppressed})
		}
		out = append(out, j)
	}
	return out
}

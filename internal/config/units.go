package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Duration is written as Go writes it ("10m", "1h30m"), with "d" for days of
// 24 hours in front ("7d", "1d12h").
type Duration time.Duration

// Std returns the duration as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns the duration as Go writes it.
func (d Duration) String() string { return time.Duration(d).String() }

// UnmarshalYAML reads a duration.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		return fmt.Errorf("invalid duration %s", describe(n))
	}
	*d = Duration(v)
	return nil
}

// ParseDuration reads a duration as Go writes it, with days in front.
func ParseDuration(s string) (time.Duration, error) {
	before, rest, ok := strings.Cut(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	days, err := strconv.ParseUint(before, 10, 32)
	const maxDays = uint64(math.MaxInt64 / (24 * int64(time.Hour)))
	if err != nil || days > maxDays {
		return 0, fmt.Errorf("invalid duration %q", s)
	}
	total := time.Duration(days) * 24 * time.Hour
	if rest == "" {
		return total, nil
	}
	v, err := time.ParseDuration(rest)
	if err != nil || v < 0 || total+v < total {
		return 0, fmt.Errorf("invalid duration %q", s)
	}
	return total + v, nil
}

// Size is a number of bytes, written "64MiB", "512KiB", "1GiB", "10MB" or as a
// plain number.
type Size int64

// Bytes returns the size as a number.
func (s Size) Bytes() int64 { return int64(s) }

var sizeUnits = []struct {
	suffix string
	factor int64
}{
	// The longer suffixes first: "MiB" also ends in "B".
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
	{"", 1},
}

// ParseSize reads a size.
func ParseSize(s string) (Size, error) {
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || v < 0 || v > math.MaxInt64/u.factor {
			break
		}
		return Size(v * u.factor), nil
	}
	return 0, fmt.Errorf("invalid size %q", s)
}

// String returns the size in the largest binary unit that divides it.
func (s Size) String() string {
	for _, u := range []int{3, 2, 1, 0} {
		if unit := sizeUnits[u]; s != 0 && int64(s)%unit.factor == 0 {
			return strconv.FormatInt(int64(s)/unit.factor, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// UnmarshalYAML reads a size.
func (s *Size) UnmarshalYAML(n *yaml.Node) error {
	v, err := ParseSize(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		return fmt.Errorf("invalid size %s", describe(n))
	}
	*s = v
	return nil
}

func splitList(s string) []string {
	var list []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// describe says what a node is, for an error about it.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	if n.ShortTag() == "!!null" {
		return "nothing"
	}
	const most = 40
	if v := n.Value; len(v) > most {
		return strconv.Quote(v[:most]) + "..."
	}
	return strconv.Quote(n.Value)
}

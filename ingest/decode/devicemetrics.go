package decode

import (
	"bytes"
	"strconv"

	"github.com/tocsin-io/tocsin/internal/jsonscan"
	"github.com/tocsin-io/tocsin/schemas"
)

const (
	// maxMetricList bounds the ports and addresses of one list, maxCustomMetrics the
	// custom metrics of one report, maxExported the metrics of one export.
	maxMetricList    = 256
	maxCustomMetrics = 64
	maxExported      = 1000
)

var typeDeviceMetrics = []byte(schemas.TypeDeviceMetrics)

// isDeviceReport tells what a device publishes on $aws/things/<thing>/defender/metrics/json,
// by long names or short ones.
func isDeviceReport(rec *record) bool {
	header := rec.get(fHeader)
	if header.Kind != jsonscan.Object {
		return false
	}
	_, long := jsonscan.Lookup(header.Raw, "report_id")
	_, short := jsonscan.Lookup(header.Raw, "rid")
	return (long || short) && (rec.object(fMetrics) || rec.object(fCustomMetrics))
}

// isMetricsExport tells what Device Defender's metrics export publishes.
func isMetricsExport(rec *record) bool {
	if !rec.has(fVersion) || rec.get(fMetrics).Kind != jsonscan.Array {
		return false
	}
	var s jsonscan.Scanner
	s.Reset(rec.get(fMetrics).Raw)
	s.Enter()
	if !s.Element() {
		return false
	}
	v := s.Value()
	if v.Kind != jsonscan.Object {
		return false
	}
	_, named := jsonscan.Lookup(v.Raw, "name")
	_, valued := jsonscan.Lookup(v.Raw, "value")
	return named && valued
}

// deviceReport decodes a device-side metrics report. Its message is not the report,
// whose names come in two lengths, but a flat object with one name for each metric.
//
// The report does not name its thing, which is in the topic. The IoT rule that sends it
// here must add it: SELECT *, topic(3) AS thingName, timestamp() AS timestamp FROM
// '$aws/things/+/defender/metrics/json'.
//
// The format: AWS IoT Device Defender developer guide, "Device metrics document
// specification".
func (d *Decoder) deviceReport(rec *record, o origin) {
	ev := d.begin(sourceDeviceDefender, nil)
	ev.Type = typeDeviceMetrics
	ev.ThingName = d.field(rec, fThingName)
	ev.ClientID = d.field(rec, fClientID)

	header := rec.get(fHeader)
	m := &d.flat
	m.begin()
	m.text("thing_name", rec.get(fThingName))
	report := either(header, "report_id", "rid")
	m.scalar("report_id", report)
	m.scalar("report_version", either(header, "version", "v"))
	if metrics := rec.get(fMetrics); metrics.Kind == jsonscan.Object {
		m.ports("listening_tcp_ports", either(metrics, "listening_tcp_ports", "tp"))
		m.ports("listening_udp_ports", either(metrics, "listening_udp_ports", "up"))
		network := either(metrics, "network_stats", "ns")
		for _, name := range [...][2]string{{"bytes_in", "bi"}, {"bytes_out", "bo"}, {"packets_in", "pi"}, {"packets_out", "po"}} {
			m.scalar(name[0], either(network, name[0], name[1]))
		}
		established := either(either(metrics, "tcp_connections", "tc"), "established_connections", "ec")
		m.scalar("num_established_tcp_connections", either(established, "total", "t"))
		m.list("destination_ips", either(established, "connections", "cs"), func(v jsonscan.Value) jsonscan.Value {
			return host(either(v, "remote_addr", "rad"))
		})
	}
	m.custom(rec.get(fCustomMetrics))
	ev.Message = m.end()

	if report.Kind != jsonscan.Invalid {
		ev.ID = schemas.NewEventID(sourceDeviceDefender, typeDeviceMetrics, rec.get(fThingName).Raw, rec.get(fClientID).Raw, report.Raw)
	}
	ms, timed := ParseTime(rec.get(fTimestamp))
	d.finish(&o, ms, timed)
}

// metricsExport decodes an export into an event for each metric. A metric that was
// exported again has a higher version, and is another event.
//
// The format: AWS IoT Device Defender developer guide, "Metrics export", JSON schema.
func (d *Decoder) metricsExport(rec *record, o origin) {
	var s jsonscan.Scanner
	s.Reset(rec.get(fMetrics).Raw)
	s.Enter()
	for n := 0; n < maxExported && s.Element(); n++ {
		v := s.Value()
		if v.Kind == jsonscan.Object {
			d.exportedMetric(v, o)
		}
	}
}

func (d *Decoder) exportedMetric(v jsonscan.Value, o origin) {
	ev := d.begin(sourceDeviceDefender, nil)
	ev.Type = typeDeviceMetrics
	get := func(name string) jsonscan.Value { return either(v, name, name) }
	thing, name, version, at := get("thing"), get("name"), get("version"), get("timestamp")
	ev.ThingName = d.text(thing, &d.arena)
	m := &d.flat
	m.begin()
	m.text("thing_name", thing)
	m.text("metric", name)
	m.scalar("metric_version", version)
	dimension := get("dimension")
	m.text("dimension", either(dimension, "name", "name"))
	m.text("dimension_operator", either(dimension, "operator", "operator"))
	if value := get("value"); value.Kind == jsonscan.Object && name.Kind == jsonscan.String {
		key, custom := metricName(name.Raw)
		prefix := ""
		if custom {
			prefix = "custom_"
		}
		for _, kind := range [...]string{"count", "number"} {
			m.number(prefix, key, either(value, kind, kind))
		}
		for _, kind := range [...]string{"cidrs", "ports", "numbers", "strings"} {
			if list := either(value, kind, kind); list.Kind == jsonscan.Array {
				m.elements(prefix, key, list, nil)
			}
		}
	}
	ev.Message = m.end()
	ev.ID = schemas.NewEventID(sourceDeviceDefender, typeDeviceMetrics, thing.Raw, name.Raw, at.Raw, version.Raw, dimension.Raw)
	ms, timed := ParseTime(at)
	d.finish(&o, ms, timed)
}

// metricName turns "aws:all-bytes-out" into "bytes_out", as it is called in reports;
// any other name is that of a custom metric.
func metricName(raw []byte) (name []byte, custom bool) {
	name, ok := bytes.CutPrefix(raw, []byte("aws:"))
	if !ok {
		return raw, true
	}
	name = bytes.TrimPrefix(name, []byte("all-"))
	if string(name) == "destination-ip-addresses" {
		return []byte("destination_ips"), false
	}
	return bytes.ReplaceAll(name, []byte("-"), []byte("_")), false
}

// either returns the member of an object by its long name or its short one.
func either(v jsonscan.Value, long, short string) jsonscan.Value {
	if v.Kind != jsonscan.Object {
		return jsonscan.Value{}
	}
	if found, ok := jsonscan.Lookup(v.Raw, long); ok {
		return found
	}
	found, _ := jsonscan.Lookup(v.Raw, short)
	return found
}

// host returns an address without its port: "198.51.100.7:443", "[2001:db8::1]:443".
func host(v jsonscan.Value) jsonscan.Value {
	if v.Kind != jsonscan.String {
		return v
	}
	b := v.Raw
	if i := bytes.IndexByte(b, ']'); i > 0 && b[0] == '[' {
		b = b[1:i]
	} else if bytes.Count(b, []byte(":")) == 1 {
		b = b[:bytes.IndexByte(b, ':')]
	}
	v.Raw = b
	return v
}

// flat builds a flat JSON object from values of another one, whose text it copies as it
// is. It reuses its memory.
type flat struct{ buf []byte }

func (f *flat) begin() { f.buf = append(f.buf[:0], '{') }

func (f *flat) end() []byte {
	f.buf = append(f.buf, '}')
	return f.buf
}

func (f *flat) name(prefix string, name []byte) {
	if len(f.buf) > 1 {
		f.buf = append(f.buf, ',')
	}
	f.buf = append(append(append(append(f.buf, '"'), prefix...), name...), '"', ':')
}

func (f *flat) value(v jsonscan.Value) {
	if v.Kind == jsonscan.String {
		f.buf = append(append(append(f.buf, '"'), v.Raw...), '"')
		return
	}
	f.buf = append(f.buf, v.Raw...)
}

func isScalar(v jsonscan.Value) bool { return v.Kind == jsonscan.Number || v.Kind == jsonscan.String }

// scalar adds a number or text.
func (f *flat) scalar(name string, v jsonscan.Value) {
	if isScalar(v) {
		f.name("", []byte(name))
		f.value(v)
	}
}

func (f *flat) text(name string, v jsonscan.Value) {
	if v.Kind == jsonscan.String {
		f.scalar(name, v)
	}
}

func (f *flat) number(prefix string, name []byte, v jsonscan.Value) {
	if v.Kind == jsonscan.Number {
		f.name(prefix, name)
		f.value(v)
	}
}

// ports adds the port numbers of a list, and how many there are in all.
func (f *flat) ports(name string, v jsonscan.Value) {
	f.scalar("num_"+name, either(v, "total", "t"))
	f.list(name, either(v, "ports", "pts"), func(v jsonscan.Value) jsonscan.Value { return either(v, "port", "pt") })
}

// list adds what of makes of the elements of an array.
func (f *flat) list(name string, v jsonscan.Value, of func(jsonscan.Value) jsonscan.Value) {
	if v.Kind == jsonscan.Array {
		f.elements("", []byte(name), v, of)
	}
}

func (f *flat) elements(prefix string, name []byte, v jsonscan.Value, of func(jsonscan.Value) jsonscan.Value) {
	f.name(prefix, name)
	f.buf = append(f.buf, '[')
	var s jsonscan.Scanner
	s.Reset(v.Raw)
	s.Enter()
	for n := 0; n < maxMetricList && s.Element(); {
		e := s.Value()
		if of != nil {
			e = of(e)
		}
		if !isScalar(e) {
			continue
		}
		if n++; n > 1 {
			f.buf = append(f.buf, ',')
		}
		f.value(e)
	}
	f.buf = append(f.buf, ']')
}

// custom adds the custom metrics of a report, {"name": [{"number": 1}]} with the name of
// each behind "custom_".
func (f *flat) custom(v jsonscan.Value) {
	if v.Kind != jsonscan.Object {
		return
	}
	var s jsonscan.Scanner
	s.Reset(v.Raw)
	s.Enter()
	n := 0
	for key, ok := s.Member(); ok && n < maxCustomMetrics; key, ok = s.Member() {
		values := s.Value()
		if values.Kind != jsonscan.Array {
			continue
		}
		var in jsonscan.Scanner
		in.Reset(values.Raw)
		in.Enter()
		if !in.Element() {
			continue
		}
		n++
		value := in.Value()
		f.number("custom_", key.Raw, either(value, "number", "n"))
		for _, kind := range [...][2]string{{"number_list", "nl"}, {"string_list", "sl"}, {"ip_list", "il"}} {
			if list := either(value, kind[0], kind[1]); list.Kind == jsonscan.Array {
				f.elements("custom_", key.Raw, list, nil)
			}
		}
	}
	f.name("", []byte("num_custom_metrics"))
	f.buf = strconv.AppendInt(f.buf, int64(n), 10)
}

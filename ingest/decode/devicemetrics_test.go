package decode

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tocsin-io/tocsin/schemas"
)

const (
	reportLong  = `{"header":{"report_id":1530304554,"version":"1.0"},"metrics":{"listening_tcp_ports":{"ports":[{"interface":"eth0","port":24800},{"interface":"eth0","port":22}],"total":2},"listening_udp_ports":{"ports":[{"interface":"eth0","port":5353}],"total":1},"network_stats":{"bytes_in":29358693495,"bytes_out":26485035,"packets_in":10013573555,"packets_out":11382615},"tcp_connections":{"established_connections":{"connections":[{"local_interface":"eth0","local_port":80,"remote_addr":"192.0.2.1:8000"},{"remote_addr":"[2001:db8::1]:443"}],"total":2}}},"custom_metrics":{"MyMetric_Of_Type_Number":[{"number":1}],"MyList":[{"string_list":["a","b"]}],"MyIPs":[{"ip_list":["192.0.2.2"]}],"odd":7},"thingName":"pump-1","timestamp":1795168805000}`
	reportShort = `{"hed":{"rid":1530304554,"v":"1.0"},"met":{"tp":{"pts":[{"if":"eth0","pt":24800},{"if":"eth0","pt":22}],"t":2},"up":{"pts":[{"if":"eth0","pt":5353}],"t":1},"ns":{"bi":29358693495,"bo":26485035,"pi":10013573555,"po":11382615},"tc":{"ec":{"cs":[{"li":"eth0","lp":80,"rad":"192.0.2.1:8000"},{"rad":"[2001:db8::1]:443"}],"t":2}}},"cmet":{"MyMetric_Of_Type_Number":[{"number":1}],"MyList":[{"string_list":["a","b"]}],"MyIPs":[{"ip_list":["192.0.2.2"]}],"odd":7},"thingName":"pump-1","timestamp":1795168805000}`
	reportFlat  = `{"thing_name":"pump-1","report_id":1530304554,"report_version":"1.0","num_listening_tcp_ports":2,"listening_tcp_ports":[24800,22],"num_listening_udp_ports":1,"listening_udp_ports":[5353],"bytes_in":29358693495,"bytes_out":26485035,"packets_in":10013573555,"packets_out":11382615,"num_established_tcp_connections":2,"destination_ips":["192.0.2.1","2001:db8::1"],"custom_MyMetric_Of_Type_Number":1,"custom_MyList":["a","b"],"custom_MyIPs":["192.0.2.2"],"num_custom_metrics":3}`

	export = `{"version":"1.0","metrics":[{"name":"aws:message-byte-size","thing":"pump-1","value":{"count":26},"version":1,"timestamp":1795168805000},{"name":"aws:listening-tcp-ports","thing":"pump-2","value":{"ports":[22,80]},"version":2,"timestamp":1795168805000,"dimension":{"name":"topics","operator":"IN"}},{"name":"temperature","thing":"pump-3","value":{"number":41.5},"version":1,"timestamp":1795168805000},7]}`
)

func deviceMetrics(t *testing.T, payload string) []*schemas.Event {
	t.Helper()
	var events []*schemas.Event
	d := New(Options{})
	d.Decode([]byte(payload), Hints{Received: time.UnixMilli(1795168806000)}, func(ev *schemas.Event) { events = append(events, ev.Clone()) }, func(r Rejection) {
		t.Errorf("%s: %v", r.Reason, r.Err)
	})
	return events
}

func TestDeviceReport(t *testing.T) {
	var ids []schemas.EventID
	for _, payload := range []string{reportLong, reportShort} {
		events := deviceMetrics(t, payload)
		if len(events) != 1 {
			t.Fatalf("%d events", len(events))
		}
		ev := events[0]
		if diff := cmp.Diff(reportFlat, string(ev.Message)); diff != "" {
			t.Error(diff)
		}
		if string(ev.Source) != "devicedefender" || string(ev.Type) != "DeviceMetrics" || string(ev.Device) != "pump-1" || ev.Time != 1795168805000 {
			t.Errorf("got %+v", ev)
		}
		ids = append(ids, ev.ID)
	}
	if ids[0] != ids[1] {
		t.Error("one report has two IDs")
	}
}

func TestMetricsExport(t *testing.T) {
	var got []string
	for _, ev := range deviceMetrics(t, export) {
		got = append(got, string(ev.Device)+" "+string(ev.Type)+" "+string(ev.Message))
	}
	want := []string{
		`pump-1 DeviceMetrics {"thing_name":"pump-1","metric":"aws:message-byte-size","metric_version":1,"message_byte_size":26}`,
		`pump-2 DeviceMetrics {"thing_name":"pump-2","metric":"aws:listening-tcp-ports","metric_version":2,"dimension":"topics","dimension_operator":"IN","listening_tcp_ports":[22,80]}`,
		`pump-3 DeviceMetrics {"thing_name":"pump-3","metric":"temperature","metric_version":1,"custom_temperature":41.5}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What only looks like metrics is passed on as it is.
func TestNoDeviceMetrics(t *testing.T) {
	for _, payload := range []string{
		`{"header":{"id":1},"metrics":{}}`, `{"header":{"report_id":1},"metrics":[]}`, `{"version":"1","metrics":[]}`, `{"version":"1","metrics":[{"name":"x"}]}`,
	} {
		events := deviceMetrics(t, payload)
		if len(events) != 1 || string(events[0].Source) != "generic" || string(events[0].Message) != payload {
			t.Errorf("%s: got %d events, %s", payload, len(events), events[0].Source)
		}
	}
}

// Whatever the reports hold, the message is flat JSON.
func FuzzDeviceMetrics(f *testing.F) {
	for _, seed := range []string{reportLong, reportShort, export, `{"hed":{"rid":"\u0022"},"met":{"tp":{"pts":[[],{}],"t":"x"}},"thingName":"\\\""}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		d := New(Options{})
		d.Decode(payload, Hints{Received: time.UnixMilli(1795168806000)}, func(ev *schemas.Event) {
			if string(ev.Type) != schemas.TypeDeviceMetrics || string(ev.Source) != schemas.SourceDeviceDefender {
				return
			}
			var m map[string]any
			if err := json.Unmarshal(ev.Message, &m); err != nil {
				t.Fatalf("%s: %v", ev.Message, err)
			}
			for name, v := range m {
				if _, nested := v.(map[string]any); nested {
					t.Errorf("%s is %v", name, v)
				}
			}
		}, func(Rejection) {})
	})
}

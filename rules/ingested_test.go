package rules

import "testing"

func TestIdle(t *testing.T) {
	for _, c := range []struct {
		ls        LogSource
		why, hint string
	}{
		{LogSource{Product: "aws"}, "", ""},
		{LogSource{Product: "aws", Service: "cloudtrail"}, "", ""},
		{LogSource{Service: "iot"}, "", ""},
		{LogSource{Product: "windows", Service: "security"}, `no event has product "windows"`, "what the pipeline takes in has product: aws"},
		{LogSource{Product: "aws", Category: "proxy"}, `no event has category "proxy"`, "name a service instead"},
		{LogSource{Product: "aws", Service: "cloudtrial"}, `no event has service "cloudtrial"`, `did you mean "cloudtrail"?`},
	} {
		if why, hint := c.ls.Idle(); why != c.why || hint != c.hint {
			t.Errorf("%+v: %q, %q", c.ls, why, hint)
		}
		// What is called idle, no event may reach.
		reached := false
		for _, service := range services {
			reached = reached || c.ls.selects(LogSource{Product: Product, Service: service})
		}
		if reached != (c.why == "") {
			t.Errorf("%+v: reached %t, %q", c.ls, reached, c.why)
		}
	}
}

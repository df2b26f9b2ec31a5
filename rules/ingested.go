package rules

import (
	"fmt"

	"github.com/tocsin-io/tocsin/schemas"
)

// services are the log source services of the events that the pipeline carries.
var services = []string{
	schemas.SourceIoT, schemas.SourceLifecycle, schemas.SourceCloudTrail,
	schemas.SourceGuardDuty, schemas.SourceDeviceDefender, schemas.SourceRegistry, schemas.SourceBehavior,
	schemas.SourceGeneric,
}

// Idle returns why no event of the pipeline is of the log source, "" where some
// are: its events have the product aws, a service, and no category.
func (ls LogSource) Idle() (why, hint string) {
	switch {
	case ls.Product != "" && ls.Product != Product:
		return fmt.Sprintf("no event has product %q", ls.Product), "what the pipeline takes in has product: " + Product
	case ls.Category != "":
		return fmt.Sprintf("no event has category %q", ls.Category), "name a service instead"
	case ls.Service == "":
		return "", ""
	}
	for _, s := range services {
		if ls.Service == s {
			return "", ""
		}
	}
	return fmt.Sprintf("no event has service %q", ls.Service), nearest(ls.Service, services)
}

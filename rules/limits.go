package rules

// Limits bound what rules may cost, in memory and in time per event.
type Limits struct {
	FileBytes int // one source, default 16 MiB
}

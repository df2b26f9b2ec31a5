package main

// embeddedClickhouseCmd is how the program starts itself as the child process
// that holds the ClickHouse engine: the engine is a C++ library, and what
// brings it down must not bring down the pipeline.
type embeddedClickhouseCmd struct {
	Args []string `arg:"" optional:"" passthrough:"all"`
}

// Run runs the command.
func (c *embeddedClickhouseCmd) Run(std streams) error { return serveEmbeddedClickHouse(std, c.Args) }

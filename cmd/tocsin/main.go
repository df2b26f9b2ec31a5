// Command tocsin correlates the logs of AWS IoT fleets: it takes them in, keeps
// them in Kafka and ClickHouse, and finds by Sigma rules what is being misused.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

func main() { os.Exit(run(os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})) }

// streams are where a command reads and writes: results go to out, logs and
// progress to err.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// run is main without the process: it returns the exit code.
func run(args []string, std streams) (code int) {
	// --help is answered in the middle of parsing; kong's way out is to exit.
	type exited int
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exited:
			code = int(e)
		default:
			panic(e)
		}
	}()
	parser, err := newParser(std, func(c int) { panic(exited(c)) })
	if err != nil {
		panic(err) // a faulty struct tag
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		var p *kong.ParseError
		hint := "tocsin --help"
		if errors.As(err, &p) && p.Context.Selected() != nil {
			hint = "tocsin " + p.Context.Selected().Path() + " --help"
		}
		fmt.Fprintf(std.err, "tocsin: %v\nTry: %s\n", err, hint)
		return exitUsage
	}
	return report(std.err, command.Run(std))
}

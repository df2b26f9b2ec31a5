package clickhouse

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"
)

// shared is the engine that most tests use: its start is the expensive part.
var shared *Server

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case Command:
			os.Exit(ServeMain())
		case parentCommand:
			runParent(os.Args[2])
		}
	}
	os.Exit(run(m))
}

const parentCommand = "parent"

// runParent is a process with an engine that waits to be killed.
func runParent(dir string) {
	s, err := Start(context.Background(), Options{DataDir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.PID())
	select {}
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tocsin-clickhouse-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	log, _ := zap.NewDevelopment(zap.AddStacktrace(zap.FatalLevel))
	shared, err = Start(ctx, Options{DataDir: dir, Logger: log})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer shared.Close()
	return m.Run()
}

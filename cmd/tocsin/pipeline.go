package main

import (
	"context"
	"errors"
)

var errNotWired = errors.New("this build has no stages yet")

func startStages(context.Context, *app, stages) (*running, error) { return nil, errNotWired }

func migrateStore(context.Context, *app, bool) error { return errNotWired }

func serveEmbeddedClickHouse(streams, []string) error { return errNotWired }

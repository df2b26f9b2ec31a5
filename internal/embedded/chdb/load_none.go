//go:build !linux || !(amd64 || arm64) || noembedded

package chdb

func load(string) (*symbols, error) { return nil, ErrUnsupported }

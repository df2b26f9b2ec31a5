package clickhouse

import (
	"context"
	"errors"
	"io"
	"net"
	"os"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// Reasons of failed inserts. They are metric labels: the set is fixed.
const (
	reasonNetwork  = "network"
	reasonTimeout  = "timeout"
	reasonAuth     = "auth"
	reasonSchema   = "schema"
	reasonMemory   = "memory"
	reasonParts    = "too_many_parts"
	reasonDisk     = "disk"
	reasonReadonly = "readonly"
	reasonServer   = "server"
	reasonOther    = "other"
)

// exceptionCode returns ClickHouse's code of an error that the server sent, 0
// for other errors.
func exceptionCode(err error) int32 {
	var e *ch.Exception
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// reason classifies an error by what has to be done about it. The codes are
// those of ClickHouse's src/Common/ErrorCodes.cpp.
func reason(err error) string {
	switch exceptionCode(err) {
	case 0:
	case 10, 16, 20, 36, 47, 48, 53, 60, 81, 115:
		return reasonSchema // tables are not what this program expects: migrate
	case 159, 160, 209, 473:
		return reasonTimeout
	case 164, 242:
		return reasonReadonly
	case 192, 193, 194, 497, 516:
		return reasonAuth
	case 241:
		return reasonMemory
	case 243, 246, 74, 75, 76:
		return reasonDisk
	case 252:
		return reasonParts
	default:
		return reasonServer
	}
	var netErr net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return reasonTimeout
	case errors.As(err, &netErr):
		if netErr.Timeout() {
			return reasonTimeout
		}
		return reasonNetwork
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, ch.ErrAcquireConnTimeout):
		return reasonNetwork
	}
	return reasonOther
}

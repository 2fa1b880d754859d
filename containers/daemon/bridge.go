package daemon

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"slices"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/grpclog"
)

// bridgeLog makes containerd's logger write to log. Below the level warning, containerd logs every plugin and every
// call, which costs time and helps nobody, so these entries are dropped at their source.
func bridgeLog(log *slog.Logger) {
	std := logrus.StandardLogger()
	std.SetLevel(logrus.WarnLevel)
	std.SetFormatter(bridge{log})
	std.SetOutput(io.Discard)
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
}

// bridge is a logrus formatter that formats nothing and passes the entry on.
type bridge struct{ log *slog.Logger }

// Format passes e on and returns no bytes.
func (b bridge) Format(e *logrus.Entry) ([]byte, error) {
	attrs := make([]slog.Attr, 0, len(e.Data))
	for _, k := range slices.Sorted(maps.Keys(e.Data)) {
		attrs = append(attrs, slog.Any(k, e.Data[k]))
	}
	b.log.LogAttrs(context.Background(), slogLevel(e.Level), e.Message, attrs...)
	return nil, nil
}

func slogLevel(l logrus.Level) slog.Level {
	switch {
	case l <= logrus.ErrorLevel:
		return slog.LevelError
	case l == logrus.WarnLevel:
		return slog.LevelWarn
	case l == logrus.InfoLevel:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

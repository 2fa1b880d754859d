package line

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"
)

func TestHandlerKeepsLinesWhole(t *testing.T) {
	var pipe, console bytes.Buffer
	h := New(&pipe, &console)
	log := slog.New(h).With("service", "a b").WithGroup("g")
	log.Warn("bad\n\x1b[2Jnews", "error", "line one\nline two", "n", 3, "took", 1234567*time.Nanosecond)
	want := `bad??[2Jnews service="a b" g.error="line one\nline two" g.n=3 g.took=1.23ms` + "\n"
	if pipe.String() != "<4>"+want || console.String() != "resinos: "+want {
		t.Errorf("pipe %q, console %q", pipe.String(), console.String())
	}
	h.Redirect(nil, nil)
	log.Error("nobody hears this")
	if h.Enabled(context.Background(), slog.LevelDebug) {
		t.Error("debug is enabled")
	}
}

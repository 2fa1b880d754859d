package main

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
)

func TestPlain(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(newPlain(&b)).With("app", "hello")
	log.Error("went wrong", "error", errors.New("read \"x\":\nboom"), "n", 3, "empty", "")
	log.Warn("two\nlines\n")
	log.Debug("never")
	log.Info("fine")
	want := "<3>went wrong app=hello error=\"read \\\"x\\\":\\nboom\" n=3 empty=\"\"\n" +
		"<4>two | lines app=hello\n<6>fine app=hello\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestDispatchRefuses(t *testing.T) {
	for _, args := range [][]string{{"engine"}, {"engine", "dance"}, {"/usr/bin/other"}, {"containerd", "-nonsense"},
		{"manager", "-nonsense"}} {
		var b bytes.Buffer
		env := Env{Stdout: &b, Stderr: &b, Log: slog.New(newPlain(&b))}
		if err := dispatch(t.Context(), env, args); !errors.Is(err, errUsage) || b.Len() == 0 {
			t.Errorf("dispatch(%q) = %v, said %q", args, err, b.String())
		}
	}
}

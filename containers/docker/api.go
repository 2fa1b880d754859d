package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// answerTime is how long the daemon may take to answer us.
const answerTime = 20 * time.Second

// answerLimit bounds an answer: a list of containers.
const answerLimit = 16 << 20

// api asks the daemon on its own socket.
type api struct{ client *http.Client }

func newAPI() api {
	a := api{}
	a.client = &http.Client{Timeout: answerTime, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return a.dial(ctx) },
	}}
	return a
}

func (api) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", inner)
}

// busy reports whether a container runs.
func (a api) busy(ctx context.Context) (bool, error) {
	text, err := a.get(ctx, "/containers/json")
	if err != nil {
		return false, err
	}
	var running []struct{}
	if err := json.Unmarshal(text, &running); err != nil {
		return false, fmt.Errorf("read list of containers: %w", err)
	}
	return len(running) > 0, nil
}

func (a api) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close() // only read
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the daemon for %s: %s", path, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, answerLimit))
}

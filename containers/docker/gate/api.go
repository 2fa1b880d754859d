package gate

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

// API asks the daemon on its own socket.
type API struct {
	socket string
	client *http.Client
}

// NewAPI returns the API of the daemon whose socket has this path. Nothing is connected yet.
func NewAPI(socket string) API {
	a := API{socket: socket}
	a.client = &http.Client{Timeout: answerTime, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return a.Dial(ctx) },
	}}
	return a
}

// Dial is that of a Gate.
func (a API) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", a.socket)
}

// Alive reports whether the daemon answers.
func (a API) Alive(ctx context.Context) bool {
	_, err := a.get(ctx, "/_ping")
	return err == nil
}

// Busy reports whether a container runs. It is that of a Gate.
func (a API) Busy(ctx context.Context) (bool, error) {
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

func (a API) get(ctx context.Context, path string) ([]byte, error) {
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
	text, err := io.ReadAll(io.LimitReader(answer.Body, answerLimit))
	if err != nil {
		return nil, fmt.Errorf("ask the daemon for %s: %w", path, err)
	}
	return text, nil
}

package lights

import (
	"os"
	"path/filepath"
	"testing"

	"resinos/mounts/testenv"
)

func TestBlink(t *testing.T) {
	dir := t.TempDir()
	light := filepath.Join(dir, "act", "brightness")
	if err := os.Mkdir(filepath.Dir(light), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(light, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); Blink(dir, stop) }()
	for _, want := range []string{"1", "0", "1"} {
		testenv.WaitFor(t, "light "+want, func() bool {
			text, err := os.ReadFile(light)
			return err == nil && string(text) == want
		})
	}
	close(stop)
	testenv.Receive(t, "end of blinking", ended)
	Blink(t.TempDir(), nil) // without lights it ends
}

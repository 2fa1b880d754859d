package clockstatus

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "time.json")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
	for name, text := range map[string]string{"empty": "", "cut": `{"synchronised": tr`,
		"huge": strings.Repeat(" ", maxStatus) + "{}"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRunning(t *testing.T) {
	began, err := ProcessStart("/", os.Getpid())
	if err != nil || began == 0 {
		t.Fatalf("ProcessStart = %d, %v", began, err)
	}
	if !(Status{PID: os.Getpid(), Began: began}).Running("/") {
		t.Error("we do not run")
	}
	if (Status{PID: os.Getpid(), Began: began + 1}).Running("/") || (Status{}).Running("/") ||
		(Status{PID: 1 << 30, Began: 1}).Running("/") {
		t.Error("somebody else is taken for us")
	}
}

package apt

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

func TestExclusiveWaitsUntilCancelled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := exclusive(t.Context(), file, func() { t.Error("waiting for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := exclusive(ctx, file, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("second lock: %v, want that it waits until cancelled", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if unlock, err = exclusive(t.Context(), file, nil); err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

package logd

import (
	"testing"
	"time"

	"resinos/services/notify"
	"resinos/services/notify/notifytest"
)

// TestAlive: logd sends watchdog messages also while it receives nothing.
func TestAlive(t *testing.T) {
	signs := notifytest.Watch(t, 30*time.Millisecond)
	cfg := configIn(shmDir(t))
	cfg.Alive = notify.Watched()
	start(t, cfg)
	for range 3 {
		<-signs
	}
}

package logd

import (
	"testing"
	"time"

	"resinos/services/notify"
	"resinos/services/notify/notifytest"
)

// TestAlive: a logd to which nobody says anything gives signs of life all the same.
func TestAlive(t *testing.T) {
	signs := notifytest.Watch(t, 30*time.Millisecond)
	cfg := configIn(shmDir(t))
	cfg.Alive = notify.Watched()
	start(t, cfg)
	for range 3 {
		<-signs
	}
}

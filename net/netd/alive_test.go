package netd

import (
	"testing"
	"time"

	"resinos/net/link/linktest"
	"resinos/services/notify/notifytest"
)

// TestAlive: a netd that waits for a server that does not come gives signs of life.
func TestAlive(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	signs := notifytest.Watch(t, 30*time.Millisecond)
	newDevice(t).start()
	for range 3 {
		<-signs
	}
}

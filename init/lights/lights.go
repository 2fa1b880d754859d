// Package lights blinks all lights of a device together, which a working system never does: it shows that neither slot
// can be used. It takes every light, and never restores one. Read Blink.
package lights

import (
	"os"
	"path/filepath"
	"time"
)

// Dir is the directory of the lights on a device.
const Dir = "/sys/class/leds"

// Blink lets all lights below dir go on and off, a second each, until stop is closed. Without lights it returns at
// once.
func Blink(dir string, stop <-chan struct{}) {
	all, _ := filepath.Glob(filepath.Join(dir, "*", "brightness")) // fails only for a malformed pattern
	if len(all) == 0 {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for on := "1"; ; on = map[string]string{"1": "0", "0": "1"}[on] {
		for _, light := range all {
			// Some have no trigger, and nothing else could say that a light fails.
			_ = os.WriteFile(filepath.Join(filepath.Dir(light), "trigger"), []byte("none"), 0)
			_ = os.WriteFile(light, []byte(on), 0)
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

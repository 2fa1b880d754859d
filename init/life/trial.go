package life

import (
	"context"
	"os"
	"time"

	"resinos/services/pid1"
)

// trialLimit is the time since the start of the kernel after which PID 1 ends the boot of a slot on trial that nobody
// has confirmed. The service confirm decides long before; this is for a version in which that service does not run.
const trialLimit = 30 * time.Minute

// endTrial reboots unless the slot was confirmed, which a file records. The boot script goes back to the other slot
// once the tries are used up.
func (p *PID1) endTrial(confirmed string) {
	if _, err := os.Stat(confirmed); err == nil || p.goingDown() != nil {
		return
	}
	p.log.Error("slot on trial is neither confirmed nor left: rebooting", "after", trialLimit)
	// It cannot fail: Reboot is known, and the loop takes one request.
	_ = p.ask(context.Background(),
		request{action: pid1.Reboot, why: "nobody confirmed the slot on trial", failed: true})
}

package pid1

import "resinos/services/spec"

// ServiceStatus is one service as the status operation shows it. Moments are seconds since the
// kernel started.
type ServiceStatus struct {
	Name        string   `json:"name"`
	State       string   `json:"state"`
	PID         int      `json:"pid"`
	Since       float64  `json:"since"`    // of the state
	Restarts    int      `json:"restarts"` // starts after the first
	Description string   `json:"description,omitempty"`
	Type        string   `json:"type"`
	Reason      string   `json:"reason,omitempty"` // why it is not up
	Text        string   `json:"text,omitempty"`   // what it says of itself (STATUS=)
	LastExit    string   `json:"last_exit,omitempty"`
	RetryIn     float64  `json:"retry_in,omitempty"` // seconds until the next try, in state backoff
	Needs       []string `json:"needs,omitempty"`
	Wants       []string `json:"wants,omitempty"`
	After       []string `json:"after,omitempty"`
	Conflicts   []string `json:"conflicts,omitempty"`

	Masked   bool     `json:"masked,omitempty"`
	Removed  bool     `json:"removed,omitempty"`   // its file is gone: it is stopped and then forgotten
	Wanted   bool     `json:"wanted"`              // somebody asks for it
	Began    float64  `json:"began,omitempty"`     // of the first life: its program was started …
	Ready    float64  `json:"ready,omitempty"`     // … and it was up
	Demand   []string `json:"demand,omitempty"`    // what starts it: listen tcp::80, every 1h0m0s, watch /etc/x
	NextIn   float64  `json:"next_in,omitempty"`   // seconds until its timer starts it, in state armed
	Clients  int      `json:"clients,omitempty"`   // connections being served, with listen-each
	Stored   int      `json:"stored,omitempty"`    // descriptors it left with us
	Health   string   `json:"health,omitempty"`    // ok, or how often it failed in a row
	Failures int      `json:"failures,omitempty"`  // lives lost in a row without a stable one
	Changed  bool     `json:"changed,omitempty"`   // its file has changed since it was started
	Reloads  bool     `json:"reloads,omitempty"`   // it can be reloaded
	Loading  bool     `json:"reloading,omitempty"` // it said RELOADING=1 and not yet READY=1
}

// Removed is the state of a service whose file is gone and that has stopped: only who asked for the stop hears of it.
const Removed = "removed"

// Shown is one service as the show operation tells it: all that its files say, and all that runs.
type Shown struct {
	Status ServiceStatus `json:"status"`
	Spec   spec.Spec     `json:"spec"`
}

// Rescanned is what the rescan operation found.
type Rescanned struct {
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"` // stopped, then forgotten
	Changed []string `json:"changed,omitempty"` // in force from their next start on
	Faults  []string `json:"faults,omitempty"`  // of files that are not in force
}

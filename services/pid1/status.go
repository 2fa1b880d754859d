package pid1

import "resinos/services/spec"

// ServiceStatus is one service in the result of the status operation. Times are seconds since the kernel started.
type ServiceStatus struct {
	Name        string   `json:"name"`
	State       string   `json:"state"`
	PID         int      `json:"pid"`
	Since       float64  `json:"since"`    // when the state began
	Restarts    int      `json:"restarts"` // starts after the first one
	Description string   `json:"description,omitempty"`
	Type        string   `json:"type"`
	Reason      string   `json:"reason,omitempty"` // why it is not up
	Text        string   `json:"text,omitempty"`   // its own status text (STATUS=)
	LastExit    string   `json:"last_exit,omitempty"`
	RetryIn     float64  `json:"retry_in,omitempty"` // seconds until the next try, in state backoff
	Needs       []string `json:"needs,omitempty"`
	Wants       []string `json:"wants,omitempty"`
	After       []string `json:"after,omitempty"`
	Conflicts   []string `json:"conflicts,omitempty"`

	Masked   bool     `json:"masked,omitempty"`
	Removed  bool     `json:"removed,omitempty"`   // its file is gone: it is being stopped and then removed
	Wanted   bool     `json:"wanted"`              // somebody requested it
	Began    float64  `json:"began,omitempty"`     // start of the program in the first life …
	Ready    float64  `json:"ready,omitempty"`     // … and when it was up
	Demand   []string `json:"demand,omitempty"`    // what demands it: listen tcp::80, every 1h0m0s, watch /etc/x
	AtBoot   bool     `json:"at_boot,omitempty"`   // it starts at boot, and on demand once it has ended
	NextIn   float64  `json:"next_in,omitempty"`   // seconds until its timer starts it, in state armed
	Clients  int      `json:"clients,omitempty"`   // connections being served, with listen-each
	Stored   int      `json:"stored,omitempty"`    // descriptors that it left with PID 1
	Health   string   `json:"health,omitempty"`    // ok, or the number of failures in a row
	Failures int      `json:"failures,omitempty"`  // lives in a row that ended before they were stable
	Changed  bool     `json:"changed,omitempty"`   // its file has changed since its start
	Reloads  bool     `json:"reloads,omitempty"`   // it can be reloaded
	Loading  bool     `json:"reloading,omitempty"` // it has sent RELOADING=1 and not yet READY=1
}

// Removed is the state of a service whose file is gone and that has stopped: only the client that requested the stop
// gets it.
const Removed = "removed"

// Shown is one service in the result of the show operation: the content of its files, and its state.
type Shown struct {
	Status ServiceStatus `json:"status"`
	Spec   spec.Spec     `json:"spec"`
}

// Rescanned is the result of the rescan operation.
type Rescanned struct {
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"` // stopped, then removed
	Changed []string `json:"changed,omitempty"` // in force from their next start
	Faults  []string `json:"faults,omitempty"`  // of files that are not in force
}

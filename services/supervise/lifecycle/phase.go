// Package lifecycle decides about one service: from its state and one input, Step computes the next state and the acts
// to carry out. It is pure: no clock, file, process or logger, and it knows no other service (package transaction
// does). Start at the drawing above the table next, then read Step.
package lifecycle

// Phase is the phase of one service; docs/services.md explains each under States.
type Phase uint8

const (
	stay     Phase = iota // in the table: the event changes nothing
	Down                  // not requested, and nothing runs
	Waiting               // requested; waits for its needs and for its turn
	Armed                 // requested; waits for traffic, its timer or a change of a path
	Starting              // its process was requested and is not up yet
	Up                    // it does its work
	Leaving               // must stop; waits until those that depend on it have stopped
	Stopping              // SIGTERM was sent
	Killing               // SIGKILL was sent
	Clearing              // the main process is dead; its other processes are being killed
	Backoff               // died; waits before the next try
	Done                  // ended by itself, as it should
	Failed                // given up; only a person starts it again
	Skipped               // one of its conditions does not hold
	numPhases
)

var phaseNames = [numPhases]string{
	stay: "stay", Down: "down", Waiting: "waiting", Armed: "armed", Starting: "starting", Up: "up", Leaving: "leaving",
	Stopping: "stopping", Killing: "killing", Clearing: "clearing", Backoff: "backoff",
	Done: "done", Failed: "failed", Skipped: "skipped",
}

// String returns the word that status shows.
func (p Phase) String() string { return phaseNames[p] }

// ParsePhase is the reverse of String.
func ParsePhase(name string) (Phase, bool) {
	for p := Down; p < numPhases; p++ {
		if phaseNames[p] == name {
			return p, true
		}
	}
	return 0, false
}

// Alive reports whether a process of the service may exist.
func (p Phase) Alive() bool {
	switch p {
	case Starting, Up, Leaving, Stopping, Killing, Clearing:
		return true
	}
	return false
}

// Event is what moves a service from phase to phase.
type Event uint8

const (
	None    Event = iota
	Want          // requested
	Stop          // not requested any more
	Lost          // one of its needs is gone for good
	Restart       // stop it if it runs, and start it again
	Clear         // it may start, because its needs are up; or it may stop, because its dependants have
	idle          // as Clear, but the service starts on demand only
	Fire          // its demand has happened
	Skip          // a condition does not hold
	Ready         // it is up
	Quits         // it has announced its own end (STOPPING=1)
	Sick          // it is unhealthy, by its health command or its own message
	Exit          // its main process ended, or could not be started
	Timer         // the deadline of its phase is over
	again         // all its processes have ended, and it starts again after a pause
	now           // … and it starts again at once
	finish        // … and it has ended well
	giveUp        // … and it has failed and is not started again
	rest          // … and it is not requested
	numEvents
)

var eventNames = [numEvents]string{
	None: "none", Want: "want", Stop: "stop", Lost: "lost", Restart: "restart", Clear: "clear",
	idle: "idle", Fire: "fire", Skip: "skip", Ready: "ready", Quits: "quits", Sick: "sick",
	Exit: "exit", Timer: "timer", again: "again", now: "now", finish: "finish",
	giveUp: "giveUp", rest: "rest",
}

// String returns the word that the drawing uses.
func (e Event) String() string { return eventNames[e] }

// next is the transition table of a service. A missing entry keeps the phase. Every arrow of the drawing is an entry
// and every entry an arrow; a test compares them.
//
//	the usual case     down --want--> waiting --clear--> starting --ready--> up
//	stop               up --stop--> leaving --clear--> stopping --exit--> clearing --rest--> down
//	a need is gone     up --lost--> leaving
//	it does not stop   stopping --timer--> killing --exit--> clearing
//	it cannot be killed, kill again
//	                   killing --timer--> killing
//	it crashes         up --exit--> clearing --again--> backoff --timer--> waiting
//	its first crash, or it was stopped to be started again
//	                   clearing --now--> waiting
//	it ends            clearing --finish--> done    clearing --giveUp--> failed
//	it is unhealthy    up --sick--> stopping        starting --sick--> killing
//	watchdog is late   up --timer--> killing
//	it announces its end
//	                   up --quits--> stopping
//	not up in time     starting --timer--> killing
//	not up at all      starting --exit--> clearing
//	stop while starting
//	                   starting --stop--> leaving   starting --lost--> leaving
//	dead while it waits for its dependants
//	                   leaving --exit--> clearing
//	on demand only     waiting --idle--> armed --fire--> waiting
//	its timer fires, or a person starts it
//	                   armed --timer--> waiting     armed --want--> waiting
//	                   armed --restart--> waiting
//	ended well, and waits for the next demand
//	                   clearing --idle--> armed
//	a need is gone, or its sockets cannot be opened
//	                   armed --lost--> waiting      armed --exit--> clearing
//	a condition does not hold, for good or until the next demand
//	                   starting --skip--> skipped   starting --idle--> armed
//	                   armed --skip--> skipped
//	stop while nothing runs
//	                   waiting --stop--> down       backoff --stop--> down
//	                   done --stop--> down          failed --stop--> down
//	                   armed --stop--> down         skipped --stop--> down
//	requested again    done --want--> waiting       failed --want--> waiting
//	                   backoff --want--> waiting    skipped --want--> waiting
//	restart            up --restart--> stopping     starting --restart--> stopping
//	                   down --restart--> waiting    backoff --restart--> waiting
//	                   done --restart--> waiting    failed --restart--> waiting
//	                   skipped --restart--> waiting
var next = [numPhases][numEvents]Phase{
	Down:    {Want: Waiting, Restart: Waiting},
	Waiting: {Stop: Down, Clear: Starting, idle: Armed},
	Armed: {Fire: Waiting, Timer: Waiting, Want: Waiting, Restart: Waiting, Stop: Down, Lost: Waiting,
		Exit: Clearing, Skip: Skipped},
	Starting: {Ready: Up, Exit: Clearing, Timer: Killing, Sick: Killing, Stop: Leaving, Lost: Leaving,
		Restart: Stopping, Skip: Skipped, idle: Armed},
	Up: {Exit: Clearing, Stop: Leaving, Lost: Leaving, Restart: Stopping, Timer: Killing, Sick: Stopping,
		Quits: Stopping},
	Leaving:  {Clear: Stopping, Exit: Clearing},
	Stopping: {Exit: Clearing, Timer: Killing},
	Killing:  {Exit: Clearing, Timer: Killing},
	Clearing: {again: Backoff, now: Waiting, finish: Done, giveUp: Failed, rest: Down, idle: Armed},
	Backoff:  {Timer: Waiting, Want: Waiting, Restart: Waiting, Stop: Down},
	Done:     {Want: Waiting, Restart: Waiting, Stop: Down},
	Failed:   {Want: Waiting, Restart: Waiting, Stop: Down},
	Skipped:  {Want: Waiting, Restart: Waiting, Stop: Down},
}

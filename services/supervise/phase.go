package supervise

// phase is where one service is in its life.
type phase uint8

const (
	stay     phase = iota // in the table: the event changes nothing
	down                  // nobody asked for it, nothing runs
	waiting               // asked for; waits for its needs and for its turn
	armed                 // asked for; waits for traffic, its hour or a change of a path
	starting              // its process was asked for and is not up yet
	up                    // it does its work
	leaving               // must go; waits for those that depend on it to go first
	stopping              // SIGTERM was sent
	killing               // SIGKILL was sent
	clearing              // the main process is dead; what it left behind is being killed
	backoff               // died; waits before the next try
	done                  // ended by itself, as it should
	failed                // given up; only a person starts it again
	skipped               // one of its conditions does not hold
	numPhases
)

var phaseNames = [numPhases]string{
	stay: "stay", down: "down", waiting: "waiting", armed: "armed", starting: "starting", up: "up", leaving: "leaving",
	stopping: "stopping", killing: "killing", clearing: "clearing", backoff: "backoff",
	done: "done", failed: "failed", skipped: "skipped",
}

// String returns the word that status shows.
func (p phase) String() string { return phaseNames[p] }

// alive reports whether a process of the service may be there.
func (p phase) alive() bool {
	switch p {
	case starting, up, leaving, stopping, killing, clearing:
		return true
	}
	return false
}

// event is what moves a service from phase to phase.
type event uint8

const (
	none    event = iota
	want          // asked for
	stop          // not asked for any more
	lost          // one of its needs is gone for good
	restart       // asked to go round once
	clear         // the way is free: to start, its needs are up; to leave, its dependants have left
	idle          // … and it starts on demand only
	fire          // the demand is there
	skip          // a condition does not hold
	ready         // it is up
	quits         // it says that it ends by itself
	sick          // it is not well: its health command or its own word says so
	exit          // its main process ended, or could not be started
	timer         // the deadline of its phase is over
	again         // all of it is gone and it is to come back after a pause
	now           // … to come back at once
	finish        // … it has ended well
	giveUp        // … it has ended badly and is not to be tried again
	rest          // … and nobody asks for it
	numEvents
)

var eventNames = [numEvents]string{
	none: "none", want: "want", stop: "stop", lost: "lost", restart: "restart", clear: "clear",
	idle: "idle", fire: "fire", skip: "skip", ready: "ready", quits: "quits", sick: "sick",
	exit: "exit", timer: "timer", again: "again", now: "now", finish: "finish",
	giveUp: "giveUp", rest: "rest",
}

// String returns the word that the drawing uses.
func (e event) String() string { return eventNames[e] }

// next is the life of a service. An entry that is not there keeps the phase. Every arrow of the
// drawing is an entry and every entry an arrow; a test compares them.
//
//	a good life        down --want--> waiting --clear--> starting --ready--> up
//	asked to stop      up --stop--> leaving --clear--> stopping --exit--> clearing --rest--> down
//	a need is gone     up --lost--> leaving
//	it does not stop   stopping --timer--> killing --exit--> clearing
//	it cannot be killed, kill again
//	                   killing --timer--> killing
//	it crashes         up --exit--> clearing --again--> backoff --timer--> waiting
//	the first time, or we stopped it to start it again
//	                   clearing --now--> waiting
//	it ends            clearing --finish--> done    clearing --giveUp--> failed
//	it is not well     up --sick--> stopping        starting --sick--> killing
//	no sign of life    up --timer--> killing
//	it says goodbye    up --quits--> stopping
//	not up in time     starting --timer--> killing
//	not up at all      starting --exit--> clearing
//	stop while starting
//	                   starting --stop--> leaving   starting --lost--> leaving
//	dead before its turn to leave
//	                   leaving --exit--> clearing
//	on demand only     waiting --idle--> armed --fire--> waiting
//	its hour has come, or a person asks
//	                   armed --timer--> waiting     armed --want--> waiting
//	                   armed --restart--> waiting
//	ended well, and waits for the next demand
//	                   clearing --idle--> armed
//	a need of it is gone, or its sockets cannot be had
//	                   armed --lost--> waiting      armed --exit--> clearing
//	a condition does not hold, for good or until the next demand
//	                   starting --skip--> skipped   starting --idle--> armed
//	                   armed --skip--> skipped
//	stop while nothing runs
//	                   waiting --stop--> down       backoff --stop--> down
//	                   done --stop--> down          failed --stop--> down
//	                   armed --stop--> down         skipped --stop--> down
//	asked for again    done --want--> waiting       failed --want--> waiting
//	                   backoff --want--> waiting    skipped --want--> waiting
//	go round once      up --restart--> stopping     starting --restart--> stopping
//	                   down --restart--> waiting    backoff --restart--> waiting
//	                   done --restart--> waiting    failed --restart--> waiting
//	                   skipped --restart--> waiting
var next = [numPhases][numEvents]phase{
	down:     {want: waiting, restart: waiting},
	waiting:  {stop: down, clear: starting, idle: armed},
	armed:    {fire: waiting, timer: waiting, want: waiting, restart: waiting, stop: down, lost: waiting, exit: clearing, skip: skipped},
	starting: {ready: up, exit: clearing, timer: killing, sick: killing, stop: leaving, lost: leaving, restart: stopping, skip: skipped, idle: armed},
	up:       {exit: clearing, stop: leaving, lost: leaving, restart: stopping, timer: killing, sick: stopping, quits: stopping},
	leaving:  {clear: stopping, exit: clearing},
	stopping: {exit: clearing, timer: killing},
	killing:  {exit: clearing, timer: killing},
	clearing: {again: backoff, now: waiting, finish: done, giveUp: failed, rest: down, idle: armed},
	backoff:  {timer: waiting, want: waiting, restart: waiting, stop: down},
	done:     {want: waiting, restart: waiting, stop: down},
	failed:   {want: waiting, restart: waiting, stop: down},
	skipped:  {want: waiting, restart: waiting, stop: down},
}

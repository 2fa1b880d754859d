//go:build faults

package fault

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// On reports whether this binary has fault points.
const On = true

// Order is one fault to cause. The operation fault of the control socket has it as JSON.
type Order struct {
	Point string `json:"point"` // the place; empty: any call
	Kind  string `json:"kind"`  // panic, spin, block or error
	Errno string `json:"errno"` // for error: ENOMEM or EAGAIN
	// which visit counts, from 1; for any call it is the number of all calls since the process started
	At    int64 `json:"at"`
	Times int   `json:"times"` // how often it breaks from then on; 0: once
}

var (
	calls atomic.Int64 // every Call since the process began

	mu     sync.Mutex // guards the rest
	orders []*Order
	visits = map[string]int64{}
)

// errnos are the errors that an order may name.
func errno(name string) (syscall.Errno, bool) {
	switch name {
	case "ENOMEM":
		return syscall.ENOMEM, true
	case "EAGAIN":
		return syscall.EAGAIN, true
	}
	return 0, false
}

// Set adds an order.
func Set(o Order) error {
	if _, known := errno(o.Errno); o.Kind == "error" && !known {
		return fmt.Errorf("set fault: %.20q is no error to fail with", o.Errno)
	}
	switch o.Kind {
	case "panic", "spin", "block", "error":
	default:
		return fmt.Errorf("set fault: %.20q is not panic, spin, block or error", o.Kind)
	}
	o.Times = max(o.Times, 1)
	mu.Lock()
	defer mu.Unlock()
	orders = append(orders, &o)
	return nil
}

// Calls counts the calls so far.
func Calls() int64 { return calls.Load() }

// Point marks a place that may panic or hang.
func Point(name string) { _ = visit(name, 0) }

// Call is called before a system call; if it returns an error, the system call must fail with that error.
func Call(name string) error { return visit(name, calls.Add(1)) }

func visit(name string, number int64) error {
	o := due(name, number)
	if o == nil {
		return nil
	}
	switch o.Kind {
	case "panic":
		panic("fault point " + name)
	case "spin":
		for {
			// A loop that makes no progress and uses its processor.
			time.Now()
		}
	case "block":
		select {}
	}
	e, _ := errno(o.Errno) // Set has checked it
	if number == 0 {
		return nil // a point has no error to fail with
	}
	return e
}

// due returns the order that breaks this visit.
func due(name string, number int64) *Order {
	mu.Lock()
	defer mu.Unlock()
	visits[name]++
	for _, o := range orders {
		at := visits[name]
		if o.Point == "" {
			at = number
		} else if o.Point != name {
			continue
		}
		if at == 0 || at < o.At || o.Times == 0 {
			continue
		}
		o.Times--
		return o
	}
	return nil
}

// Package pid1 owns what PID 1 answers on its control socket: the operations, their arguments and results as types, and
// a client with a method for each. It never decides anything and links no code of PID 1: services/supervise and
// init/life serve the operations, and clients use Client. Read Client first.
package pid1

import (
	"context"
	"time"

	"resinos/services/bootreport"
	"resinos/services/control"
)

// The operations.
const (
	OpStatus    = "status"
	OpShow      = "show"
	OpKill      = "kill"
	OpRescan    = "rescan"
	OpBoot      = "boot"
	OpPlan      = "plan"
	OpPing      = "ping"
	OpMilestone = "milestone"
	OpPower     = "power"
	OpReexec    = "re-exec"
)

// Change is an operation that only takes the name of a service and changes its state.
type Change string

// The changes.
const (
	Start   Change = "start"
	Stop    Change = "stop"
	Restart Change = "restart"
	Reload  Change = "reload" // the service reads its own configuration again
)

// Power is what happens to the device after the shutdown.
type Power string

// The three ends.
const (
	PowerOff Power = "poweroff"
	Reboot   Power = "reboot"
	Halt     Power = "halt"
)

// Named is the argument of the operations on one service.
type Named struct {
	Name string `json:"name"`
}

// Kill is the argument of kill.
type Kill struct {
	Name   string `json:"name"`
	Signal string `json:"signal,omitempty"` // TERM, HUP, ...; empty is KILL
	All    bool   `json:"all,omitempty"`    // every process of the service, not only the main one
}

// Milestone is the argument of milestone.
type Milestone struct {
	Name string  `json:"name"`
	At   float64 `json:"at"` // seconds since the kernel started; 0: now
}

// Shutdown is the argument of power. A second request makes the shutdown more urgent.
type Shutdown struct {
	Action Power `json:"action"`
	Force  bool  `json:"force,omitempty"` // does not wait for services
}

// Reexec is the argument of re-exec.
type Reexec struct {
	Reason string `json:"reason,omitempty"`
}

// Client sends requests to PID 1. Each method is one connection with one request. A refusal is a *control.Error;
// without a deadline in its context a method waits as long as PID 1 may work.
type Client struct {
	Socket string // of PID 1; empty is control.SocketPath
}

func (c Client) call(ctx context.Context, op string, args, result any) error {
	socket := c.Socket
	if socket == "" {
		socket = control.SocketPath
	}
	return control.Call(ctx, socket, op, args, result)
}

// service is call for an operation whose result is the status of one service.
func (c Client) service(ctx context.Context, op string, args any) (st ServiceStatus, err error) {
	err = c.call(ctx, op, args, &st)
	return st, err
}

// Status lists all services, in start order.
func (c Client) Status(ctx context.Context) ([]ServiceStatus, error) {
	var result []ServiceStatus
	err := c.call(ctx, OpStatus, nil, &result)
	return result, err
}

// Show returns everything about one service.
func (c Client) Show(ctx context.Context, name string) (Shown, error) {
	var result Shown
	err := c.call(ctx, OpShow, Named{name}, &result)
	return result, err
}

// Change starts, stops, restarts or reloads a service. It returns when that is done or has visibly failed.
func (c Client) Change(ctx context.Context, op Change, name string) (ServiceStatus, error) {
	return c.service(ctx, string(op), Named{name})
}

// Kill sends a signal to processes of a service.
func (c Client) Kill(ctx context.Context, k Kill) (ServiceStatus, error) {
	return c.service(ctx, OpKill, k)
}

// Rescan makes PID 1 read the service files again.
func (c Client) Rescan(ctx context.Context) (Rescanned, error) {
	var result Rescanned
	err := c.call(ctx, OpRescan, nil, &result)
	return result, err
}

// Boot returns the time line of this boot so far.
func (c Client) Boot(ctx context.Context) (bootreport.Report, error) {
	var result bootreport.Report
	err := c.call(ctx, OpBoot, nil, &result)
	return result, err
}

// Plan lists the steps of this boot.
func (c Client) Plan(ctx context.Context) ([]bootreport.PlannedStep, error) {
	var result []bootreport.PlannedStep
	err := c.call(ctx, OpPlan, nil, &result)
	return result, err
}

// Ping returns when the loop of PID 1 has answered.
func (c Client) Ping(ctx context.Context) error { return c.call(ctx, OpPing, nil, nil) }

// Milestone reports a milestone of the boot that was reached at a time since kernel start.
func (c Client) Milestone(ctx context.Context, name string, at time.Duration) error {
	return c.call(ctx, OpMilestone, Milestone{Name: name, At: at.Seconds()}, nil)
}

// Power requests a shutdown and returns when PID 1 has accepted the request.
func (c Client) Power(ctx context.Context, s Shutdown) error { return c.call(ctx, OpPower, s, nil) }

// Reexec makes PID 1 re-execute itself. PID 1 answers before that.
func (c Client) Reexec(ctx context.Context, reason string) error {
	return c.call(ctx, OpReexec, Reexec{Reason: reason}, nil)
}

package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestBoth: the server runs until the client has ended, and a server that fails ends the client.
func TestBoth(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var order []string
	err := both(ctx, func(ctx context.Context) error {
		<-ctx.Done()
		order = append(order, "server")
		return nil
	}, func(ctx context.Context) error {
		cancel() // the device goes down
		<-ctx.Done()
		order = append(order, "client")
		return nil
	})
	if err != nil || strings.Join(order, " ") != "client server" {
		t.Errorf("%v, %v", order, err)
	}

	broken := errors.New("broken")
	err = both(t.Context(), func(context.Context) error { return broken }, func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("a server that fails: %v", err)
	}
	err = both(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return nil },
		func(context.Context) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("a client that fails: %v", err)
	}
}

// TestLoop: a manager that is silent for too long makes the process unwell, until it goes on.
func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop()
		time.Sleep(managerLimit)
		if err := l.well(); err != nil {
			t.Errorf("at its limit: %v", err)
		}
		time.Sleep(time.Second)
		if err := l.well(); err == nil || !strings.Contains(err.Error(), "the manager hangs") {
			t.Errorf("above its limit: %v", err)
		}
		l.beat()
		time.Sleep(managerLimit)
		if err := l.well(); err != nil {
			t.Errorf("after a beat: %v", err)
		}
	})
	if used := memoryInUse(); used < 1<<20 || used > mostMemory {
		t.Errorf("this process uses %d bytes", used)
	}
}

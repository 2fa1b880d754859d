package main

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"resinos/mounts/testenv"
)

// TestCalm: memory is given back once, 30 s after the start, the last lease, work or many events.
func TestCalm(t *testing.T) {
	forced := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		collected := make(chan struct{})
		var asked atomic.Int64
		leased, wait := process{collected, asked.Load, slog.New(slog.DiscardHandler)}.calm(ctx)
		defer wait()
		defer stop()
		before := forced()
		after := func(d time.Duration, want uint32) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := forced() - before; got != want {
				t.Errorf("memory given back %d times, want %d", got, want)
			}
		}
		after(calmAfter-time.Second, 0)
		leased()
		after(calmAfter-time.Second, 0)
		after(2*time.Second, 1)
		after(time.Hour, 1)
		leased()
		after(calmAfter+time.Second, 2)
		collect := func(pause time.Duration) {
			time.Sleep(pause)
			collected <- struct{}{}
		}
		for range 100 { // at rest
			collect(time.Minute)
		}
		after(time.Hour, 2)
		for range 100 { // work, which then ends
			collect(often / 2)
		}
		after(calmAfter-time.Second, 2)
		after(2*time.Second, 3)
		after(time.Hour, 3)
		asked.Add(many - 1) // what happens at rest
		collect(time.Minute)
		after(time.Hour, 3)
		asked.Add(1) // events without end of work
		collect(time.Minute)
		after(calmAfter-time.Second, 3)
		after(2*time.Second, 4)
		collect(0) // the one that was forced
		collect(time.Minute)
		after(time.Hour, 4)
	})
}

// TestCollections: each collection is noticed.
func TestCollections(t *testing.T) {
	seen := collections()
	for range 3 {
		runtime.GC()
		testenv.Receive(t, "the collection", seen)
	}
}

// TestShed: the program goes on when its pages are given back, in pieces of which the kernel maps no more than one at a
// time; again, too.
func TestShed(t *testing.T) {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := shed(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		list := mappings(string(text), path)
		if len(list) < 100 {
			t.Errorf("%d mappings of the program", len(list))
		}
		for _, m := range list {
			if m.end-m.start > piece {
				t.Errorf("a mapping of %d bytes", m.end-m.start)
			}
		}
	}
}

func TestMappings(t *testing.T) {
	const text = "00400000-0079a000 r-xp 00000000 07:00 888    /usr/sbin/netd\n" +
		"0079a000-00b3e000 r--p 0039a000 07:00 888   /usr/sbin/netd\n" +
		"00b3e000-00b5a000 rw-p 0073e000 07:00 888   /usr/sbin/netd\n00b5a000-02b91000 rw-p 00000000 00:00 0\n" +
		"02b91000-02b92000 r--p 00000000 07:00 889   /usr/lib/x\nnonsense\nx-y r-xp 0 0 0 /usr/sbin/netd\n"
	got := mappings(text, "/usr/sbin/netd")
	if want := []mapping{{0x400000, 0x79a000}, {0x79a000, 0xb3e000}}; !slices.Equal(got, want) {
		t.Errorf("mappings %x, want %x", got, want)
	}
}

package logd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/services/log/entry"
	"resinos/services/log/pipe"
	"resinos/services/log/query"
	"resinos/services/log/syslog"
)

func TestBucket(t *testing.T) {
	l := limit{rate: 10, burst: 5}
	var b bucket
	now := time.Hour
	took := 0
	for range 20 {
		if b.take(l, now, 10) {
			took++
		}
	}
	if took != 5 || !b.empty(l, now) {
		t.Errorf("took %d at once", took)
	}
	now += 200 * time.Millisecond
	for i, want := range []bool{true, true, false} {
		if got := b.take(l, now, 10); got != want {
			t.Errorf("line %d after 0.2 s: %v", i, got)
		}
	}
	if now += time.Hour; !b.take(l, now, 100*lineBytes) || b.take(l, now, 10) {
		t.Error("a long line should pass a full bucket, and empty it")
	}
	if !new(bucket).take(limit{}, now, 1<<20) {
		t.Error("no limit should let all pass")
	}
}

// dropped sums up what a source's drop lines tell, and counts its other lines.
func dropped(t *testing.T, cfg Config, name string) (told, kept, reports int) {
	t.Helper()
	err := query.Query(t.Context(), cfg.Socket, query.Filter{Names: []string{name}}, func(e entry.Entry) error {
		if count, ok := strings.CutSuffix(e.Message, " lines dropped"); ok {
			n, err := strconv.Atoi(count)
			if err != nil || e.Priority != 4 {
				t.Errorf("drop line %+v", e)
			}
			told += n
			reports++
		} else {
			kept++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return told, kept, reports
}

// One source says all it can while another says 100 lines a second: the other loses none, and kept and dropped lines of
// the first are all that it wrote, whatever happens to logd meanwhile.
func TestFloodIsLimited(t *testing.T) {
	dir := shmDir(t)
	cfg := configIn(dir)
	cfg.Rate, cfg.Burst = 0, 0
	noisy, quiet := producer(t, cfg, flood), producer(t, cfg, web)
	began := time.Now()
	stop := start(t, cfg)
	var wg sync.WaitGroup
	longest := time.Duration(0)
	const lines, each, block = 300, 10, 100 // quiet lines; blocks of the flood beside each; lines of a block
	const written = lines * each * block
	turn, half := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		text := []byte(strings.Repeat("flood flood flood flood\n", block))
		for range lines {
			turn <- struct{}{}
			for range each {
				at := time.Now()
				noisy.Write(text)
				longest = max(longest, time.Since(at))
			}
		}
	})
	wg.Go(func() {
		for i := range lines {
			if i == lines/2 {
				close(half)
			}
			<-turn
			fmt.Fprintf(quiet, "quiet %d\n", i)
		}
	})
	<-half
	stop()
	stop = start(t, cfg)
	wg.Wait()
	for i, e := range follow(t, cfg, query.Filter{Names: []string{"hello"}}, lines) {
		if e.Message != fmt.Sprintf("quiet %d", i) {
			t.Fatalf("quiet line %d is %q", i, e.Message)
		}
	}
	told, kept, reports := 0, 0, 0
	testenv.WaitFor(t, "every line of the flood is kept or counted", func() bool {
		told, kept, reports = dropped(t, cfg, "flood")
		return told+kept >= written
	})
	if told+kept != written {
		t.Errorf("%d kept and %d dropped of %d", kept, told, written)
	}
	seconds := int(time.Since(began)/time.Second) + 1
	// the burst of each life; a report at each end
	if kept < DefaultBurst || kept > 2*DefaultBurst+seconds*DefaultRate || reports > seconds+3 {
		t.Errorf("kept %d lines in less than %d s; %d reports", kept, seconds, reports)
	}
	t.Logf("%d lines, %d kept, %d reports", written, kept, reports)
	testenv.AtMost(t, "a write of the flooding source", longest, time.Second)
	stop()
}

func TestDropsSurviveKill(t *testing.T) {
	dir := shmDir(t)
	cfg := configIn(dir)
	file := producer(t, cfg, flood)
	t.Setenv("LOGD_RATE", "500")
	written := 0
	for round := range 8 {
		cmd := logdProcess(t, dir, NoKmsg)
		goal := written + DefaultBurst + round*997
		testenv.WaitFor(t, "the flood is taken", func() bool {
			unix.SetNonblock(int(file.Fd()), true)
			n, _ := unix.Write(int(file.Fd()), []byte(strings.Repeat("flood\n", 500)))
			written += max(n, 0) / len("flood\n")
			if rest := max(n, 0) % len("flood\n"); rest > 0 { // finish the line
				unix.SetNonblock(int(file.Fd()), false)
				unix.Write(int(file.Fd()), []byte("flood\n"[rest:]))
				written++
			}
			return written >= goal
		})
		cmd.Process.Kill()
		cmd.Wait()
	}
	start(t, cfg)
	told, kept := 0, 0
	testenv.WaitFor(t, "every line of the flood is kept or counted", func() bool {
		told, kept, _ = dropped(t, cfg, "flood")
		return told+kept >= written
	})
	if told+kept != written || told == 0 {
		t.Errorf("%d kept and %d dropped of %d", kept, told, written)
	}
	t.Logf("%d kept and %d dropped of %d", kept, told, written)
}

func TestPIDOfWriter(t *testing.T) {
	dir := shmDir(t)
	cfg := configIn(dir)
	file, other := producer(t, cfg, netd), producer(t, cfg, web)
	say := func(text string) { file.WriteString(text) }
	say("early\n")
	file.Write(pipe.AppendPID(nil, 41))
	say("first\nno line end")
	file.Write(pipe.AppendPID(nil, 42))
	say("second\n")
	other.Write(pipe.AppendPID(nil, 7)) // a container has no say in this
	stop := start(t, cfg)
	follow(t, cfg, query.Filter{}, 5)
	file.Write(pipe.AppendPID(nil, 43)) // nothing follows before the end of this life
	testenv.WaitFor(t, "logd reads the pid", func() bool { return !pipeHolds(t, cfg, netd) })
	stop()
	start(t, cfg)
	say("third\n")
	var got []string
	for _, e := range follow(t, cfg, query.Filter{Names: []string{"netd"}}, 5) {
		got = append(got, fmt.Sprintf("%d:%s", e.PID, e.Message))
	}
	if text := strings.Join(got, " "); text != "0:early 41:first 41:no line end 42:second 43:third" {
		t.Errorf("got %s", text)
	}
	if e := follow(t, cfg, query.Filter{Names: []string{"hello"}}, 1)[0]; e.Message != "\x01pid 7" || e.PID != 0 {
		t.Errorf("container: %+v", e)
	}
}

// pipeHolds reports whether the pipe of a source has not been read empty.
func pipeHolds(t *testing.T, cfg Config, s pipe.Source) bool {
	t.Helper()
	fd, err := unix.Open(pipe.Path(cfg.Dir, s), unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	return err == nil && n > 0
}

func TestSyslog(t *testing.T) {
	cfg := configIn(shmDir(t))
	cfg.Syslog = filepath.Join(t.TempDir(), "log")
	cfg.Rate, cfg.Burst = 50, 500
	start(t, cfg)
	out, err := net.Dial("unixgram", cfg.Syslog)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	say := func(text string) {
		t.Helper()
		if _, err := out.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	say("<83>Nov 25 04:20:28 sshd[1]: bad login\n")
	say("<29>1 2026-11-25T10:00:00Z h ntpd 99 - - in step")
	say("")
	say("no words about me")
	want := []string{"sshd authpriv 3 bad login", "ntpd daemon 5 in step", "user user 5 no words about me"}
	for i, e := range follow(t, cfg, query.Filter{Kinds: []string{entry.Syslog}}, 3) {
		if got := fmt.Sprintf("%s %s %d %s", e.Name, e.Stream, e.Priority, e.Message); got != want[i] ||
			e.PID != os.Getpid() {
			t.Errorf("%q, pid %d, want %q", got, e.PID, want[i])
		}
	}
	// A stranger makes up names, then floods.
	for i := range 200 {
		say(fmt.Sprintf("<14>made-up%d: x", i))
	}
	const floods = 3000
	for range floods {
		say("<14>loud: x")
	}
	fmt.Fprint(producer(t, cfg, netd), "unharmed\n")
	follow(t, cfg, query.Filter{Names: []string{"netd"}}, 1)
	names := map[string]int{}
	total := 0
	testenv.WaitFor(t, "every message is kept or counted", func() bool {
		clear(names)
		total = 0
		err := query.Query(t.Context(), cfg.Socket, query.Filter{Kinds: []string{entry.Syslog}},
			func(e entry.Entry) error {
				names[e.Name]++
				total++
				if count, ok := strings.CutSuffix(e.Message, " lines dropped"); ok {
					n, _ := strconv.Atoi(count)
					total += n - 1
				}
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		return total >= 203+floods
	})
	if total != 203+floods || len(names) > maxSyslog+1 || names[syslog.User] < 500 {
		t.Errorf("%d messages of %d under %d names: %v", total, 203+floods, len(names), names)
	}
}

// TestSyslogIsKept: what is said while there is no logd reaches the next one, once.
func TestSyslogIsKept(t *testing.T) {
	cfg := configIn(shmDir(t))
	cfg.Syslog = filepath.Join(t.TempDir(), "log")
	kept := -1
	cfg.Keep = func(fd int) (err error) {
		kept, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		return err
	}
	stop := start(t, cfg)
	out, err := net.Dial("unixgram", cfg.Syslog)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	fmt.Fprint(out, "<14>tag: before")
	follow(t, cfg, query.Filter{Names: []string{"tag"}}, 1)
	stop()
	if _, err := fmt.Fprint(out, "<14>tag: meanwhile"); err != nil {
		t.Fatalf("without a logd: %v", err)
	}
	cfg.Kept, cfg.Keep = kept, func(int) error { t.Error("a kept socket was kept again"); return nil }
	start(t, cfg)
	fmt.Fprint(out, "<14>tag: after")
	var got []string
	for _, e := range follow(t, cfg, query.Filter{Names: []string{"tag"}}, 3) {
		got = append(got, e.Message)
	}
	if want := []string{"before", "meanwhile", "after"}; !slices.Equal(got, want) {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

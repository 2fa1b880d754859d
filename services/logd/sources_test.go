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

	"resinos/services/devlog"
	"resinos/services/logpipe"
	"resinos/services/logquery"
	"resinos/services/logring"
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
	err := logquery.Query(t.Context(), cfg.Socket, logquery.Filter{Names: []string{name}}, func(e logring.Entry) error {
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
	stop := start(t, cfg)
	before := new(unix.Rusage)
	unix.Getrusage(unix.RUSAGE_SELF, before)
	var wg sync.WaitGroup
	written, longest := 0, time.Duration(0)
	began := time.Now()
	wg.Go(func() {
		block := []byte(strings.Repeat("flood flood flood flood\n", 100))
		for time.Since(began) < 4*time.Second {
			at := time.Now()
			noisy.Write(block)
			longest = max(longest, time.Since(at))
			written += 100
		}
	})
	const lines = 300
	wg.Go(func() {
		for i := range lines {
			fmt.Fprintf(quiet, "quiet %d\n", i)
			time.Sleep(10 * time.Millisecond)
		}
	})
	time.Sleep(1500 * time.Millisecond)
	stop()
	stop = start(t, cfg)
	wg.Wait()
	after := new(unix.Rusage)
	unix.Getrusage(unix.RUSAGE_SELF, after)
	for i, e := range follow(t, cfg, logquery.Filter{Names: []string{"hello"}}, lines) {
		if e.Message != fmt.Sprintf("quiet %d", i) {
			t.Fatalf("quiet line %d is %q", i, e.Message)
		}
	}
	told, kept, reports := 0, 0, 0
	for deadline := time.Now().Add(5 * time.Second); told+kept < written && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		told, kept, reports = dropped(t, cfg, "flood")
	}
	if told+kept != written {
		t.Errorf("%d kept and %d dropped of %d", kept, told, written)
	}
	if kept < DefaultBurst || kept > 2*DefaultBurst+10*DefaultRate || reports > 8 {
		t.Errorf("kept %d lines; %d reports", kept, reports)
	}
	cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	t.Logf("%d lines, %d kept, %d reports; the longest write took %v; CPU of both sides %v of %v", written, kept, reports, longest, cpu, time.Since(began))
	if longest > time.Second {
		t.Errorf("a write of the flooding source took %v", longest)
	}
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
		for end := time.Now().Add(time.Duration(150+round*37) * time.Millisecond); time.Now().Before(end); {
			unix.SetNonblock(int(file.Fd()), true)
			n, _ := unix.Write(int(file.Fd()), []byte(strings.Repeat("flood\n", 500)))
			written += max(n, 0) / len("flood\n")
			if rest := max(n, 0) % len("flood\n"); rest > 0 { // finish the line
				unix.SetNonblock(int(file.Fd()), false)
				unix.Write(int(file.Fd()), []byte("flood\n"[rest:]))
				written++
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	start(t, cfg)
	told, kept := 0, 0
	for deadline := time.Now().Add(5 * time.Second); told+kept < written && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		told, kept, _ = dropped(t, cfg, "flood")
	}
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
	file.Write(logpipe.AppendPID(nil, 41))
	say("first\nno line end")
	file.Write(logpipe.AppendPID(nil, 42))
	say("second\n")
	other.Write(logpipe.AppendPID(nil, 7)) // a container has no say in this
	stop := start(t, cfg)
	follow(t, cfg, logquery.Filter{}, 5)
	file.Write(logpipe.AppendPID(nil, 43)) // nothing follows before the end of this life
	for spoolLeft(t, cfg) {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	start(t, cfg)
	say("third\n")
	var got []string
	for _, e := range follow(t, cfg, logquery.Filter{Names: []string{"netd"}}, 5) {
		got = append(got, fmt.Sprintf("%d:%s", e.PID, e.Message))
	}
	if text := strings.Join(got, " "); text != "0:early 41:first 41:no line end 42:second 43:third" {
		t.Errorf("got %s", text)
	}
	if e := follow(t, cfg, logquery.Filter{Names: []string{"hello"}}, 1)[0]; e.Message != "\x01pid 7" || e.PID != 0 {
		t.Errorf("container: %+v", e)
	}
}

// spoolLeft reports whether the pipe of netd has not been read empty.
func spoolLeft(t *testing.T, cfg Config) bool {
	t.Helper()
	fd, err := unix.Open(logpipe.Path(cfg.Dir, netd), unix.O_RDONLY|unix.O_NONBLOCK, 0)
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
	for i, e := range follow(t, cfg, logquery.Filter{Kinds: []string{logring.Syslog}}, 3) {
		if got := fmt.Sprintf("%s %s %d %s", e.Name, e.Stream, e.Priority, e.Message); got != want[i] || e.PID != os.Getpid() {
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
	follow(t, cfg, logquery.Filter{Names: []string{"netd"}}, 1)
	names := map[string]int{}
	total := 0
	for deadline := time.Now().Add(5 * time.Second); total < 203+floods && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		clear(names)
		total = 0
		err := logquery.Query(t.Context(), cfg.Socket, logquery.Filter{Kinds: []string{logring.Syslog}}, func(e logring.Entry) error {
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
	}
	if total != 203+floods || len(names) > maxSyslog+1 || names[devlog.User] < 500 {
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
	follow(t, cfg, logquery.Filter{Names: []string{"tag"}}, 1)
	stop()
	if _, err := fmt.Fprint(out, "<14>tag: meanwhile"); err != nil {
		t.Fatalf("without a logd: %v", err)
	}
	cfg.Kept, cfg.Keep = kept, func(int) error { t.Error("a kept socket was kept again"); return nil }
	start(t, cfg)
	fmt.Fprint(out, "<14>tag: after")
	var got []string
	for _, e := range follow(t, cfg, logquery.Filter{Names: []string{"tag"}}, 3) {
		got = append(got, e.Message)
	}
	if want := []string{"before", "meanwhile", "after"}; !slices.Equal(got, want) {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

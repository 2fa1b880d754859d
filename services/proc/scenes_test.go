package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

var scenes = map[string]func() error{
	"storm": storm, "daemons": daemons, "codes": codes, "inheritance": inheritance,
	"failures": failures, "deaths": deaths, "oom": oom, "adopt": adopt,
	"deaf": deaf,
}

// deaf: a thread that has started a child, to which the kernel then gives SIGCHLD if the thread takes any signal, waits
// for a file system that hangs. The process hears of the end of the child all the same.
func deaf() error {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Mount("nobody", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
	}
	if err != nil {
		fmt.Println("lacking FUSE:", err)
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	runtime.LockOSThread()
	thread := fmt.Sprintf("/proc/self/task/%d/status", unix.Gettid())
	child := syscall.ProcAttr{Files: []uintptr{r.Fd()}}
	if _, err := syscall.ForkExec("/bin/cat", []string{"cat"}, &child); err != nil {
		return err
	}
	go func() {
		for status := []byte{}; !bytes.Contains(status, []byte("State:\tD")); {
			status, _ = os.ReadFile(thread) // it is there
		}
		w.Close() // the child ends
		select {
		case <-ended:
			os.Exit(0)
		case <-time.After(testenv.Patience()):
			fmt.Println("nobody heard of the end")
			os.Exit(1)
		}
	}()
	Deaf(func() { _, err = os.Lstat(dir + "/file") })
	return fmt.Errorf("the file system does not hang: %w", err)
}

// reaping runs a reaper beside the scene.
func reaping(scene func(*Reaper) error) error {
	r := NewReaper()
	return withReaper(r, scene)
}

func withReaper(r *Reaper, scene func(*Reaper) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- r.Run(ctx) }()
	err := scene(r)
	cancel()
	<-over
	return err
}

func shell(line string) Command {
	return Command{Path: "/bin/sh", Args: []string{"sh", "-c", line}, Env: []string{"PATH=/usr/sbin:/usr/bin:/bin"},
		Stderr: os.Stderr}
}

// number reads a count from the environment, so that a longer run than that of every day can be had.
func number(variable string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		return n
	}
	return usual
}

// storm: a service and a thousand of somebody's daemons are killed in one instant, again and again; the
// service's end is known each time, and every daemon is reaped.
func storm() error {
	rounds, crowd := number("RESINOS_STORMS", 2), 1000
	var orphans atomic.Int64
	r := NewReaper()
	r.OnOrphan(func(Status) { orphans.Add(1) })
	return withReaper(r, func(r *Reaper) error {
		var worst time.Duration
		for round := range rounds {
			orphans.Store(0)
			parent, err := r.Start(Command{Path: "/proc/self/exe", Args: []string{"proc.test", "child", "litter",
				strconv.Itoa(crowd)}})
			if err != nil {
				return err
			}
			if s := <-parent.Done(); !s.OK() {
				return fmt.Errorf("round %d: parent of daemons: %s", round, s)
			}
			service, err := r.Start(shell("exec sleep 1000"))
			if err != nil {
				return err
			}
			begin := time.Now()
			if err := syscall.Kill(-1, syscall.SIGKILL); err != nil {
				return err
			}
			select {
			case s := <-service.Done():
				if s.Wait.Signal() != syscall.SIGKILL {
					return fmt.Errorf("round %d: service %s", round, s)
				}
				worst = max(worst, time.Since(begin))
			case <-time.After(testenv.Patience()):
				return fmt.Errorf("round %d: the exit of the service was lost", round)
			}
			if err := testenv.Await("all daemons reaped",
				func() bool { return orphans.Load() == int64(crowd) }); err != nil {
				return fmt.Errorf("round %d: %d of %d orphans: %w", round, orphans.Load(), crowd, err)
			}
			if z := zombies(); len(z) > 0 {
				return fmt.Errorf("round %d: zombies %v", round, z)
			}
		}
		fmt.Printf("%d storms of %d: 0 lost, worst kill to exit known %s\n", rounds, crowd, worst)
		return nil
	})
}

// daemons: a child that has left its session and its parent does not stay a zombie.
func daemons() error {
	return reaping(func(r *Reaper) error {
		if _, err := r.Do(context.Background(),
			shell("for i in 1 2 3 4 5; do (setsid sh -c 'sleep 0.05' &) ; done")); err != nil {
			return err
		}
		return testenv.Await("five daemons reaped", func() bool { return r.reaped.Load() >= 6 && len(zombies()) == 0 })
	})
}

// codes: a thousand programs, eight at a time, each with its own exit code.
func codes() error {
	return reaping(func(r *Reaper) error {
		var (
			wg    sync.WaitGroup
			wrong atomic.Int64
			next  atomic.Int64
		)
		for range 8 {
			wg.Go(func() {
				for n := next.Add(1); n <= 1000; n = next.Add(1) {
					s, err := r.Do(context.Background(), shell(fmt.Sprintf("exit %d", n%256)))
					if err != nil || s.Wait.ExitStatus() != int(n%256) {
						wrong.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if wrong.Load() > 0 {
			return fmt.Errorf("%d of 1000 results are wrong", wrong.Load())
		}
		return nil
	})
}

// deaths: shells die as fast as they can be started, each with a hundred children that wait for its end; none is lost,
// and each shell's own end is told with its code.
func deaths() error {
	const brood = 99
	rounds := max(1, number("RESINOS_DEATHS", 1000)/(brood+1))
	var orphans atomic.Int64
	r := NewReaper()
	r.OnOrphan(func(Status) { orphans.Add(1) })
	return withReaper(r, func(r *Reaper) error {
		var ended, wrong atomic.Int64
		slots := make(chan struct{}, 8)
		begin := time.Now()
		for i := range rounds {
			slots <- struct{}{}
			in, out, err := os.Pipe() // closed by the shell's death
			if err != nil {
				return err
			}
			c := shell(fmt.Sprintf("i=0; while [ $i -lt %d ]; do (exec 4>&-; read x <&3) & i=$((i+1)); done; exit %d",
				brood, i%256))
			c.Extra = []*os.File{in, out}
			c.OnExit = func(s Status) {
				if s.Wait.ExitStatus() != i%256 {
					wrong.Add(1)
				}
				ended.Add(1)
				<-slots
			}
			_, err = r.Start(c)
			in.Close()
			out.Close()
			if err != nil {
				return err
			}
		}
		all := func() bool { return ended.Load() == int64(rounds) && orphans.Load() == int64(rounds*brood) }
		if err := testenv.Await("all exits", all); err != nil {
			return fmt.Errorf("%d of %d shells, %d of %d orphans: %w", ended.Load(), rounds, orphans.Load(),
				rounds*brood, err)
		}
		if z := zombies(); len(z) > 0 || wrong.Load() > 0 {
			return fmt.Errorf("zombies %v, %d wrong codes", z, wrong.Load())
		}
		fmt.Printf("%d deaths in %s\n", rounds*(brood+1), time.Since(begin))
		return nil
	})
}

// inheritance: a child has its three descriptors, the extra ones and no other, no blocked or
// ignored signal, its own session, its directory and only its environment.
func inheritance() error {
	if err := os.Setenv("SECRET", "ours"); err != nil {
		return err
	}
	leak, err := os.Open("/proc/1/stat") // must not reach the child
	if err != nil {
		return err
	}
	defer leak.Close()
	reserved, err := reservedIgnored()
	if err != nil {
		return err
	}
	// As PID 1 does with all signals. Whoever starts the tests by nohup has this one ignored.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	return reaping(func(r *Reaper) error {
		for _, extra := range []int{0, 2} {
			in, out, err := os.Pipe()
			if err != nil {
				return err
			}
			c := shell(report) // a shell, because the Go runtime opens descriptors of its own
			c.Dir, c.Env, c.Stdout = "/usr", []string{"A=1"}, out
			for range extra {
				c.Extra = append(c.Extra, leak)
			}
			user := 0
			if extra > 0 {
				user = 65534
				c.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
			}
			p, err := r.Start(c)
			if err != nil {
				return err
			}
			out.Close()
			got, _ := io.ReadAll(in)
			in.Close()
			<-p.Done()
			want := fmt.Sprintf("fds %d\nuid %d\ndir /usr\nenv A=1 \nsession %d\nblocked 0000000000000000 "+
				"ignored %016x\n", 3+extra, user, p.Pid, reserved)
			if string(got) != want {
				return fmt.Errorf("child reports\n%swant\n%s", got, want)
			}
		}
		return nil
	})
}

// reservedIgnored is which of the signals 32 and 33 we were started with as ignored. glibc keeps them for itself: its
// posix_spawn, by which make starts us, leaves them ignored, and the Go runtime cannot put that right.
func reservedIgnored() (uint64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "SigIgn:\t")
	mask, _, _ := strings.Cut(rest, "\n")
	bits, err := strconv.ParseUint(mask, 16, 64)
	return bits & (3 << 31), err
}

// failures: what cannot run is an error at once and leaves nothing behind; what has ended cannot
// be signalled; what is cancelled is killed.
func failures() error {
	return reaping(func(r *Reaper) error {
		dir, err := os.MkdirTemp("/tmp", "proc")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		garbage, plain := filepath.Join(dir, "garbage"), filepath.Join(dir, "plain")
		os.WriteFile(garbage, bytes.Repeat([]byte{0x7f}, 100), 0o755)
		os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644)
		for path, want := range map[string]error{
			"/no/such": syscall.ENOENT, garbage: syscall.ENOEXEC, plain: syscall.EACCES, dir: syscall.EACCES,
			"a\x00b": syscall.EINVAL,
		} {
			if _, err := r.Start(Command{Path: path}); !errors.Is(err, want) {
				return fmt.Errorf("Start(%q) gives %v, want %v", path, err, want)
			}
		}
		if _, err := r.Start(Command{Path: "/bin/true", Dir: "/no/such"}); !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("a missing directory gives %v", err)
		}
		p, err := r.Start(shell("exit 0"))
		if err != nil {
			return err
		}
		<-p.Done()
		if err := p.Signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("signal after the end gives %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		s, err := r.Do(ctx, shell("exec sleep 1000"))
		if !errors.Is(err, context.DeadlineExceeded) || s.Wait.Signal() != syscall.SIGKILL {
			return fmt.Errorf("a cancelled Do gives %v, %v", s, err)
		}
		var old syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
			return err
		}
		few := syscall.Rlimit{Cur: 3, Max: old.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
			return err
		}
		_, err = r.Start(Command{Path: "/bin/true"})
		if err2 := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err2 != nil {
			return err2
		}
		if !errors.Is(err, syscall.EMFILE) {
			return fmt.Errorf("without descriptors Start gives %v", err)
		}
		if s, err := r.Do(context.Background(), shell("exit 4")); err != nil || s.Wait.ExitStatus() != 4 {
			return fmt.Errorf("after that: %v, %v", s, err)
		}
		if z := zombies(); len(z) > 0 {
			return fmt.Errorf("zombies %v", z)
		}
		return nil
	})
}

// oom: the score is there before the program's first instruction, also for what it forks, and our
// own is put back.
func oom() error {
	return reaping(func(r *Reaper) error {
		for _, score := range []int{500, 0, 300} {
			in, out, err := os.Pipe()
			if err != nil {
				return err
			}
			c := shell("cat /proc/self/oom_score_adj")
			c.Stdout, c.OOMScore = out, score
			p, err := r.Start(c)
			if err != nil {
				return err
			}
			out.Close()
			got, _ := io.ReadAll(in)
			in.Close()
			<-p.Done()
			if strings.TrimSpace(string(got)) != strconv.Itoa(score) || p.Degraded != nil {
				return fmt.Errorf("child has score %q, want %d (%v)", got, score, p.Degraded)
			}
		}
		own, err := os.ReadFile("/proc/self/oom_score_adj")
		if err != nil || strings.TrimSpace(string(own)) != "0" {
			return fmt.Errorf("our own score is %q: %v", own, err)
		}
		return nil
	})
}

// child is what the test binary does as somebody's child.
func child(args []string) {
	switch args[0] {
	case "exit":
	case "litter": // n children in sessions of their own, and then die
		n, _ := strconv.Atoi(args[1])
		for range n {
			_, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"},
				&syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}})
			if err != nil {
				os.Exit(1)
			}
		}
	}
}

// report prints what a child got. The pattern opens the directory while it is read, so what it names
// is asked for again; 10 is where the shell keeps what a redirection put aside.
const report = `n=0; for f in /proc/$$/fd/*; do [ -e $f ] && [ ${f##*/} != 10 ] && n=$((n+1)); done; echo fds $n
while read k v rest; do case $k in Uid:) echo uid $v;; SigBlk:) b=$v;; SigIgn:) i=$v;; esac; done < /proc/$$/status
echo dir $(/bin/pwd)
/bin/printf 'env '; /usr/bin/tr '\000' ' ' < /proc/$$/environ; echo
read pid name state parent group session rest < /proc/$$/stat; echo session $session
echo blocked $b ignored $i`

// adopt: a child that nobody registered (as after this process executed itself again) is taken over alive and dead, a
// stranger's child is followed to its end under either parent, and what is gone is told.
func adopt() error {
	r := NewReaper()
	raw := func(line string) int {
		pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", line}, &syscall.ProcAttr{})
		if err != nil {
			panic(err)
		}
		return pid
	}
	dead := raw("exit 7")
	if err := testenv.Await("a zombie", func() bool { return len(zombies()) == 1 }); err != nil {
		return err
	}
	told := make(chan Status, 10)
	tell := func(s Status) { told <- s }
	taken := make(map[int]*Process)
	var gone int
	return withReaperLate(r, func() error {
		for i, pid := range []int{dead, raw("sleep 0.05; exit 8")} {
			birth, err := StartTime(pid)
			if err != nil || birth == 0 {
				return fmt.Errorf("start time %d, %v", birth, err)
			}
			if _, err := r.Adopt(pid, birth+1, tell); !errors.Is(err, os.ErrProcessDone) {
				return fmt.Errorf("adopted with a number that was given out again: %v", err)
			}
			p, err := r.Adopt(pid, birth*uint64(i), tell) // once without its birth, once with it
			if err != nil {
				return err
			}
			taken[pid], gone = p, pid
		}
		if _, err := r.Adopt(dead, 0, tell); !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("adopted twice: %v", err)
		}
		return nil
	}, func() error {
		for range 2 {
			s := <-told
			if first := <-taken[s.Pid].Done(); first != s ||
				s.Wait.ExitStatus() != map[bool]int{true: 7, false: 8}[s.Pid == dead] {
				return fmt.Errorf("pid %d: %s, %s", s.Pid, s, first)
			}
		}
		for pid, want := range map[int]error{gone: os.ErrProcessDone, 1: os.ErrInvalid, -3: os.ErrInvalid,
			1 << 21: os.ErrProcessDone} {
			if _, err := r.Adopt(pid, 0, tell); !errors.Is(err, want) {
				return fmt.Errorf("Adopt(%d) gives %v, want %v", pid, err, want)
			}
		}
		return adoptGrandchildren(r, told)
	})
}

// adoptGrandchildren: one whose parent outlives it, and one whose parent leaves it to us.
func adoptGrandchildren(r *Reaper, told chan Status) error {
	// the child lives until descriptor 3 ends, the parent that waits for it until 4 does
	for line, want := range map[string]string{
		"(read x <&3) & echo $!; wait; read x <&4": "ended, its parent knows how",
		"(read x <&3; exit 9) & echo $!":           "exit code 9",
	} {
		in, out, err1 := os.Pipe()
		childEnds, endChild, err2 := os.Pipe()
		parentEnds, endParent, err3 := os.Pipe()
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		c := shell(line)
		c.Stdout, c.Extra = out, []*os.File{childEnds, parentEnds}
		parent, err := r.Start(c)
		if err != nil {
			return err
		}
		for _, f := range c.Extra {
			f.Close()
		}
		out.Close()
		var pid int
		if _, err := fmt.Fscan(in, &pid); err != nil {
			return err
		}
		in.Close()
		before, err := StartTime(pid)
		if err != nil || before == 0 {
			return fmt.Errorf("start time %d, %v", before, err)
		}
		if _, err := r.Adopt(pid, 0, func(s Status) { told <- s }); err != nil {
			return err
		}
		leaves := want == "exit code 9" // the child to us
		if leaves {
			<-parent.Done()
		}
		endChild.Close()
		if s := <-told; s.Pid != pid || s.String() != want {
			return fmt.Errorf("%q: %s, want %s", line, s, want)
		}
		endParent.Close()
		if !leaves {
			<-parent.Done()
		}
		if _, err := StartTime(pid); !errors.Is(err, os.ErrProcessDone) && err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	if own, err := unix.Getsid(0); err != nil || Session(os.Getpid()) != own || Session(1<<22) != 0 {
		return fmt.Errorf("session %d, want %d, %v", Session(os.Getpid()), own, err)
	}
	return r.Nudge(ctx)
}

// withReaperLate does something before the reaper runs and something beside it.
func withReaperLate(r *Reaper, before, beside func() error) error {
	if err := before(); err != nil {
		return err
	}
	return withReaper(r, func(*Reaper) error { return beside() })
}

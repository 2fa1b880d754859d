package logd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/services/control"
	"resinos/services/log/entry"
	"resinos/services/log/pipe"
	"resinos/services/log/query"
	"resinos/services/log/ring"
)

var (
	web   = pipe.Source{Kind: pipe.Container, Name: "hello.web", Stream: pipe.Stdout}
	netd  = pipe.Source{Kind: pipe.Service, Name: "netd", Stream: pipe.Stdout}
	flood = pipe.Source{Kind: pipe.Service, Name: "flood", Stream: pipe.Stdout}
)

const helperEnv = "LOGD_TEST_HELPER"

// readers is how many clients logd serves at once.
const readers = 32

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "logd":
		partialWait = time.Hour
		cfg := configIn(os.Getenv("LOGD_DIR"))
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		cfg.Kmsg = os.Getenv("LOGD_KMSG")
		cfg.Kept, _ = strconv.Atoi(os.Getenv("LOGD_KEPT"))
		if dir := os.Getenv("LOGD_ARCHIVE"); dir != "" {
			cfg.Archive = archiveIn(dir)
			cfg.Archive.Interval = time.Millisecond
		}
		if rate := os.Getenv("LOGD_RATE"); rate != "" {
			cfg.Rate, _ = strconv.Atoi(rate)
		}
		exitOn(Run(context.Background(), cfg))
	case "full":
		exitOn(fullFileSystem(os.Getenv("LOGD_DIR")))
	}
	os.Exit(m.Run())
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func configIn(dir string) Config {
	return Config{
		Dir: filepath.Join(dir, "log"), RingDir: filepath.Join(dir, "ring"), Socket: filepath.Join(dir, "sock"),
		RingBytes: 32 << 20, Kmsg: NoKmsg, Syslog: NoSyslog, Rate: NoLimit,
	}
}

// shmDir is a directory on a tmpfs, as on the device.
func shmDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "logd")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// start runs logd in this process. The function returned stops it and waits.
func start(t testing.TB, cfg Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	cfg.Ready = func() { close(ready) }
	go func() { done <- Run(ctx, cfg) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("Run: %v", err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func producer(t testing.TB, cfg Config, s pipe.Source) *os.File {
	t.Helper()
	file, err := pipe.Open(cfg.Dir, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

// follow collects entries until want of them are there.
func follow(t testing.TB, cfg Config, f query.Filter, want int) []entry.Entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	f.Follow = true
	var got []entry.Entry
	enough := errors.New("enough")
	err := query.Query(ctx, cfg.Socket, f, func(e entry.Entry) error {
		if got = append(got, e); len(got) == want {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("%d of %d entries, then %v", len(got), want, err)
	}
	return got
}

// TestWithoutInotify: while a container has taken all instances, or all watches, no line is lost, and a pipe that is
// removed and made again between two looks is another one.
func TestWithoutInotify(t *testing.T) {
	for _, count := range []string{"max_inotify_instances", "max_inotify_watches"} {
		t.Run(count, func(t *testing.T) {
			if limit := testenv.UserLimit(t, count); limit != nil {
				limit(0)
				t.Run("lines", lines)
				t.Run("pipe made again", pipeMadeAgain)
				t.Run("inotify again", func(t *testing.T) { inotifyAgain(t, limit) })
			}
		})
	}
}

func inotifyAgain(t *testing.T, limit func(int)) {
	cfg := configIn(shmDir(t))
	said := make(chan string, 100)
	cfg.Log = slog.New(slog.NewTextHandler(toChannel(said), nil))
	start(t, cfg)
	if line := <-said; !strings.Contains(line, "inotify is used up") {
		t.Errorf("said %q", line)
	}
	limit(100)
	if line := <-said; !strings.Contains(line, "available again") {
		t.Errorf("then %q", line)
	}
	fmt.Fprintln(producer(t, cfg, web), "heard")
	follow(t, cfg, query.Filter{}, 1)
}

type toChannel chan string

func (c toChannel) Write(p []byte) (int, error) { c <- string(p); return len(p), nil }

func TestLines(t *testing.T) { lines(t) }

func lines(t *testing.T) {
	cfg := configIn(shmDir(t))
	early := producer(t, cfg, netd)
	fmt.Fprint(early, "before logd\n<4>warned\r\n")
	start(t, cfg)
	late := producer(t, cfg, web)
	got := follow(t, cfg, query.Filter{}, 2)
	fmt.Fprint(late, strings.Repeat("y", entry.MaxMessage+5)+"\nbin\x00\xff\x1b\n")
	got = append(got, follow(t, cfg, query.Filter{Names: []string{"hello"}}, 3)...)
	want := []string{"netd 6 before logd", "netd 4 warned", "hello.web 6 " + strings.Repeat("y", entry.MaxMessage),
		"hello.web 6 yyyyy", "hello.web 6 bin\x00\xff\x1b"}
	for i, e := range got {
		if text := fmt.Sprintf("%s %d %s", e.Name, e.Priority, e.Message); text != want[i] {
			t.Errorf("entry %d is %.60q, want %.60q", i, text, want[i])
		}
		if cut := i == 2; e.Cut != cut || e.Boottime <= 0 || time.Since(e.Time) > time.Hour {
			t.Errorf("entry %d: cut %v, boottime %v, time %v", i, e.Cut, e.Boottime, e.Time)
		}
	}
}

func TestPartialLineIsShown(t *testing.T) {
	cfg := configIn(shmDir(t))
	start(t, cfg)
	file := producer(t, cfg, web)
	for _, part := range []string{"lo", "gi", "n: "} {
		fmt.Fprint(file, part)
		testenv.WaitFor(t, "logd reads a part of a line", func() bool { return !pipeHolds(t, cfg, web) })
	}
	got := follow(t, cfg, query.Filter{}, 1)
	if got[0].Message != "login: " || !got[0].Cut {
		t.Errorf("%+v", got[0])
	}
	fmt.Fprint(file, "root\n")
	if got := follow(t, cfg, query.Filter{}, 2); got[1].Message != "root" || got[1].Cut {
		t.Errorf("%+v", got[1])
	}
}

func TestByteByByte(t *testing.T) {
	cfg := configIn(shmDir(t))
	start(t, cfg)
	file := producer(t, cfg, web)
	want := strings.Repeat("0123456789", 500)
	for i := range len(want) {
		file.WriteString(want[i : i+1])
	}
	file.WriteString("\nnext\n")
	if got := follow(t, cfg, query.Filter{}, 2); got[0].Message != want || got[1].Message != "next" {
		t.Errorf("%d bytes, then %q", len(got[0].Message), got[1].Message)
	}
}

func TestFirstOutput(t *testing.T) {
	cfg := configIn(shmDir(t))
	calls := make(chan time.Duration, 10)
	cfg.OnFirstOutput = func(kind string, at time.Duration) {
		if kind != pipe.Container {
			t.Errorf("kind %q", kind)
		}
		calls <- at
	}
	stop := start(t, cfg)
	fmt.Fprint(producer(t, cfg, netd), "a service is no container\n")
	follow(t, cfg, query.Filter{}, 1)
	file := producer(t, cfg, web)
	fmt.Fprint(file, "x") // no line end needed
	first := <-calls
	fmt.Fprint(file, "y\n")
	fmt.Fprint(producer(t, cfg, pipe.Source{Kind: pipe.Container, Name: "b.c", Stream: pipe.Stderr}), "z\n")
	e := follow(t, cfg, query.Filter{Kinds: []string{pipe.Container}}, 2)[0]
	stop()
	if len(calls) != 0 {
		t.Error("called twice in one life")
	}
	if _, now := now(); first <= 0 || first > now || e.Boottime < first {
		t.Errorf("first output at %v, entry at %v, now %v", first, e.Boottime, now)
	}
	start(t, cfg)
	if again := <-calls; again != e.Boottime {
		t.Errorf("second life reports %v, the ring says %v", again, e.Boottime)
	}
}

func TestPipeDeletedAndMadeAgain(t *testing.T) { pipeMadeAgain(t) }

func pipeMadeAgain(t *testing.T) {
	cfg := configIn(shmDir(t))
	stop := start(t, cfg)
	for life := range 3 {
		file := producer(t, cfg, web)
		fmt.Fprintf(file, "life %d\nlast words", life)
		follow(t, cfg, query.Filter{}, 2*life+1)
		if err := os.Remove(file.Name()); err != nil {
			t.Fatal(err)
		}
		file.Close()
		got := follow(t, cfg, query.Filter{}, 2*(life+1))
		if n := len(got); got[n-2].Message != fmt.Sprintf("life %d", life) || got[n-1].Message != "last words" {
			t.Errorf("life %d: %q, %q", life, got[n-2].Message, got[n-1].Message)
		}
	}
	fmt.Fprint(producer(t, cfg, web), "fourth\nunfinished")
	follow(t, cfg, query.Filter{}, 7)
	stop()
	// The pipe goes while logd is away; what was in the spool is not lost.
	os.Remove(pipe.Path(cfg.Dir, web))
	start(t, cfg)
	if got := follow(t, cfg, query.Filter{Last: 1}, 1); got[0].Message != "unfinished" {
		t.Errorf("after the restart: %q", got[0].Message)
	}
	if left, _ := os.ReadDir(filepath.Join(cfg.RingDir, "spool")); len(left) != 0 {
		t.Errorf("spools left: %v", left)
	}
}

func TestStrangeFilesAreIgnored(t *testing.T) {
	cfg := configIn(shmDir(t))
	var log bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	os.WriteFile(filepath.Join(cfg.Dir, "service.plain.log"), []byte("x"), 0o600)
	os.Symlink("/etc/passwd", filepath.Join(cfg.Dir, "service.link.log"))
	os.Mkdir(filepath.Join(cfg.Dir, "service.directory.log"), 0o700)
	os.WriteFile(filepath.Join(cfg.Dir, "junk"), nil, 0o600)
	stop := start(t, cfg)
	fmt.Fprint(producer(t, cfg, netd), "works\n")
	follow(t, cfg, query.Filter{}, 1)
	stop()
	if n := strings.Count(log.String(), "log pipe ignored"); n != 4 {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
}

// A source that floods must not keep others waiting.
func TestFloodDoesNotStarve(t *testing.T) {
	cfg := configIn(shmDir(t))
	start(t, cfg)
	file := producer(t, cfg, flood)
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for block := []byte(strings.Repeat("flood flood flood flood\n", 2000)); ctx.Err() == nil; {
			file.Write(block)
		}
	})
	seen := make(chan string, 100)
	wg.Go(func() {
		query.Query(ctx, cfg.Socket, query.Filter{Names: []string{"hello"}, Follow: true}, func(e entry.Entry) error {
			seen <- e.Message
			return nil
		})
	})
	quiet := producer(t, cfg, web)
	worst := time.Duration(0)
	for i := range 50 {
		began := time.Now()
		fmt.Fprintf(quiet, "quiet %d\n", i)
		select {
		case got := <-seen:
			if want := fmt.Sprintf("quiet %d", i); got != want {
				t.Errorf("saw %q, want %q", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("line %d not seen", i)
		}
		worst = max(worst, time.Since(began))
	}
	testenv.AtMost(t, "a line beside a flood", worst, 2*time.Second)
}

// logdProcess runs logd as a process of its own, with the syslog socket if one is given.
func logdProcess(t testing.TB, dir, kmsg string, syslog ...*os.File) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=logd", "LOGD_DIR="+dir, "LOGD_KMSG="+kmsg)
	if len(syslog) > 0 {
		cmd.ExtraFiles = syslog
		cmd.Env = append(cmd.Env, "LOGD_KEPT=3")
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// syslogSocket is what PID 1 holds for logd, and a client of it.
func syslogSocket(t testing.TB) (*os.File, func(string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dev-log")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { socket.Close() })
	out, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	return socket, func(text string) {
		if _, err := out.Write([]byte(text)); err != nil {
			t.Error(err)
		}
	}
}

// awaitSocket waits until a logd that has just been started answers.
func awaitSocket(t testing.TB, cfg Config) {
	t.Helper()
	testenv.WaitFor(t, "logd answers", func() bool {
		conn, err := net.Dial("unix", cfg.Socket)
		return err == nil && conn.Close() == nil
	})
}

func packedChunks(t *testing.T, cfg Config) (n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cfg.RingDir, "*.chunk"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err == nil && len(b) > 8 && b[8] == 1 {
			n++
		}
	}
	return n
}

// 100 000 lines of two sources and 5 000 of syslog while logd is killed again and again: each is there once.
func TestKilledLogdLosesNothing(t *testing.T) {
	dir := shmDir(t)
	cfg := configIn(dir)
	const lines, messages, kills = 100_000, 2000, 25
	sources := []pipe.Source{web, netd}
	var wg sync.WaitGroup
	written := make(chan struct{})
	// Before each kill, every producer is given the next part of what it has to say; a closed channel gives the rest.
	var parts []chan struct{}
	producing := func(total int, say func(i int)) {
		next := make(chan struct{}, kills)
		parts = append(parts, next)
		wg.Go(func() {
			for i := range total {
				if i%(total/kills) == 0 {
					<-next
				}
				say(i)
			}
		})
	}
	for _, s := range sources {
		out := bufio.NewWriterSize(producer(t, cfg, s), 3000)
		producing(lines/len(sources), func(i int) {
			fmt.Fprintf(out, "%d %s\n", i, strings.Repeat("z", i%50))
			if i == lines/len(sources)-1 {
				out.Flush()
			}
		})
	}
	socket, write := syslogSocket(t)
	producing(messages, func(i int) { write(fmt.Sprintf("<30>Nov 25 04:20:28 tag%d[1]: %d", i%3, i)) })
	go func() { wg.Wait(); close(written) }()
	for kill := range kills {
		for _, next := range parts {
			next <- struct{}{}
		}
		cmd := logdProcess(t, dir, NoKmsg, socket)
		if kill%2 == 1 { // on a busy host the others die before they have begun
			awaitSocket(t, cfg)
		}
		select { // any moment will do
		case <-written:
		case <-time.After(time.Duration(25+kill%7*9) * time.Millisecond):
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	for _, next := range parts {
		close(next)
	}
	last := logdProcess(t, dir, NoKmsg, socket)
	defer last.Wait()
	defer last.Process.Kill()
	awaitSocket(t, cfg)
	testenv.Receive(t, "the end of the producers", written)
	for _, s := range sources {
		got := follow(t, cfg, query.Filter{Names: []string{s.Name}}, lines/len(sources))
		for i, e := range got {
			if want := fmt.Sprintf("%d %s", i, strings.Repeat("z", i%50)); e.Message != want {
				t.Fatalf("%s: line %d is %q", s, i, e.Message)
			}
		}
	}
	for i, e := range follow(t, cfg, query.Filter{Kinds: []string{entry.Syslog}}, messages) {
		if e.Message != strconv.Itoa(i) || e.Name != fmt.Sprintf("tag%d", i%3) || e.Stream != "daemon" {
			t.Fatalf("syslog: message %d is %q of %s", i, e.Message, e.Name)
		}
	}
	extra := 0
	if err := query.Query(t.Context(), cfg.Socket, query.Filter{},
		func(entry.Entry) error { extra++; return nil }); err != nil || extra != lines+messages {
		t.Errorf("%d entries, %v, want %d", extra, err, lines+messages)
	}
	testenv.WaitFor(t, "a packed chunk", func() bool { return packedChunks(t, cfg) > 0 })
	testenv.WaitFor(t, "spools that use hardly any disk after all was read",
		func() bool { return spoolUse(t, cfg) <= 64<<10 })
}

func spoolUse(t *testing.T, cfg Config) (bytes int64) {
	files, err := filepath.Glob(filepath.Join(cfg.RingDir, "spool", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil {
			t.Fatal(err)
		}
		bytes += st.Blocks * 512
	}
	return bytes
}

func TestProtocol(t *testing.T) {
	cfg := configIn(shmDir(t))
	start(t, cfg)
	for _, test := range []struct{ send, want string }{
		{"junk\n", `"ok":false`},
		{`{"version":9,"op":"log"}` + "\n", `version 9`},
		{`{"version":1,"op":"erase"}` + "\n", `"hint":"known: log, boots, flush"`},
		{`{"version":1,"op":"log","args":{"colour":1}}` + "\n", `unknown field`},
		{`{"version":1,"op":"log","args":{"priority":8}}` + "\n", `priority 8`},
		{`{"version":1,"op":"log"}` + "\n", `{"version":1,"ok":true}`},
	} {
		conn, err := net.Dial("unix", cfg.Socket)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(test.send))
		conn.SetReadDeadline(time.Now().Add(testenv.Patience()))
		answer, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(answer, test.want) {
			t.Errorf("%q gave %q, %v, want %q", test.send, answer, err, test.want)
		}
		conn.Close()
	}
	err := query.Query(t.Context(), cfg.Socket, query.Filter{Last: -2}, func(entry.Entry) error { return nil })
	if refused := new(control.Error); !errors.As(err, &refused) {
		t.Errorf("a bad filter gave %v", err)
	}
}

func TestTooManyReaders(t *testing.T) {
	cfg := configIn(shmDir(t))
	stop := start(t, cfg)
	fmt.Fprint(producer(t, cfg, web), "x\n")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	joined := make(chan struct{}, readers)
	for range readers {
		wg.Go(func() {
			err := query.Query(ctx, cfg.Socket, query.Filter{Follow: true},
				func(entry.Entry) error { joined <- struct{}{}; return nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range readers {
		<-joined
	}
	err := query.Query(t.Context(), cfg.Socket, query.Filter{}, func(entry.Entry) error { return nil })
	if refused := new(control.Error); !errors.As(err, &refused) || refused.Hint == "" {
		t.Errorf("one reader too many got %v", err)
	}
	cancel()
	wg.Wait()
	stop()
}

// A crowd that connects and asks for nothing keeps nobody from reading.
func TestSilentReaders(t *testing.T) {
	cfg := configIn(shmDir(t))
	start(t, cfg)
	fmt.Fprint(producer(t, cfg, web), "x\n")
	for range 300 {
		conn, err := net.Dial("unix", cfg.Socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	follow(t, cfg, query.Filter{}, 1)
}

// A reader that pauses keeps its place, and reads on to the last line.
func TestReaderThatPauses(t *testing.T) {
	cfg := configIn(shmDir(t))
	start(t, cfg)
	file := producer(t, cfg, flood)
	const lines = 20000 // more than the socket holds
	for i := range lines {
		fmt.Fprintf(file, "line %d %s\n", i, strings.Repeat("f", 80))
	}
	fmt.Fprint(producer(t, cfg, web), "done\n")
	follow(t, cfg, query.Filter{Names: []string{"hello"}}, 1)
	count := 0
	err := query.Query(t.Context(), cfg.Socket, query.Filter{Names: []string{string(flood.Name)}},
		func(entry.Entry) error {
			if count++; count == 10 { // the server's socket is full by now; others are served meanwhile
				follow(t, cfg, query.Filter{Names: []string{"hello"}}, 1)
			}
			return nil
		})
	if err != nil || count != lines {
		t.Errorf("read %d of %d lines, %v", count, lines, err)
	}
}

// A reader that never reads holds up neither the collector nor the end of logd.
func TestReaderThatNeverReads(t *testing.T) {
	cfg := configIn(shmDir(t))
	stop := start(t, cfg)
	conn, err := net.Dial("unix", cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, `{"version":1,"op":"log","args":{"follow":true}}`)
	file := producer(t, cfg, flood)
	for range 200 {
		file.WriteString(strings.Repeat(strings.Repeat("f", 99)+"\n", 100))
	}
	fmt.Fprint(producer(t, cfg, web), "done\n")
	follow(t, cfg, query.Filter{Names: []string{"hello"}}, 1)
	began := time.Now()
	stop()
	testenv.AtMost(t, "stopping beside a client that never reads", time.Since(began), 2*time.Second)
}

// A slow follower is told about the gap.
func TestSlowReaderSeesGap(t *testing.T) {
	cfg := configIn(shmDir(t))
	cfg.RingBytes = 256 << 10
	start(t, cfg)
	file := producer(t, cfg, flood)
	fmt.Fprint(file, "first\n")
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	filled, seen := false, errors.New("seen")
	err := query.Query(ctx, cfg.Socket, query.Filter{Follow: true}, func(e entry.Entry) error {
		if !filled {
			filled = true
			for range 300 {
				file.WriteString(strings.Repeat(strings.Repeat("f", 99)+"\n", 100))
			}
		}
		if e.Name == "logd" && strings.Contains(e.Message, "were gone before") {
			return seen
		}
		return nil
	})
	if !errors.Is(err, seen) {
		t.Errorf("no word about the gap: %v", err)
	}
}

// With a full file system producers wait, and all goes on once there is room.
func TestFileSystemFull(t *testing.T) {
	testenv.NeedRoot(t, "a mount namespace")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=full", "LOGD_DIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func fullFileSystem(dir string) error {
	if err := unix.Mount("run", dir, "tmpfs", 0, "size=1m"); err != nil {
		return err
	}
	cfg := configIn(dir)
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	kmsg, kernel, err := fakeKernelLog()
	if err != nil {
		return err
	}
	cfg.Kmsg = kmsg
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done, ready := make(chan error, 1), make(chan struct{})
	cfg.Ready = func() { close(ready) }
	go func() { done <- Run(ctx, cfg) }()
	<-ready
	file, err := pipe.Open(cfg.Dir, web)
	if err != nil {
		return err
	}
	defer file.Close() // until then: what nobody holds open keeps nothing
	junk, err := os.Create(filepath.Join(dir, "junk"))
	if err != nil {
		return err
	}
	for block := make([]byte, 4096); err == nil; _, err = junk.Write(block) {
	}
	const lines = 2000 // less than the pipe holds
	for i := range lines {
		fmt.Fprintf(file, "line %d %s\n", i, strings.Repeat("x", 80))
	}
	const records = 100 // more than the ring takes before it must write
	for i := range records {
		if _, err := unix.Write(kernel, fmt.Appendf(nil, "6,%d,%d,-;record %d %s\n", i+1, i+1, i,
			strings.Repeat("x", 2000))); err != nil {
			return err
		}
	}
	time.Sleep(retryWait * 3 / 2) // sleep: logd is to find no room once more
	if err := junk.Truncate(0); err != nil {
		return err
	}
	n, heard, enough := 0, 0, errors.New("enough")
	ctxWait, stop := context.WithTimeout(ctx, testenv.Patience())
	defer stop()
	err = query.Query(ctxWait, cfg.Socket, query.Filter{Follow: true}, func(e entry.Entry) error {
		next, word := &n, "line"
		if e.Kind == entry.Kernel {
			next, word = &heard, "record"
		}
		if !strings.HasPrefix(e.Message, fmt.Sprintf("%s %d ", word, *next)) {
			return fmt.Errorf("%s %d is %q", word, *next, e.Message)
		}
		if *next++; n == lines && heard == records {
			return enough
		}
		return nil
	})
	cancel()
	if !errors.Is(err, enough) {
		return fmt.Errorf("after %d lines and %d records: %v", n, heard, err)
	}
	return <-done
}

// fakeKernelLog makes a pipe that gives one record a read, as /dev/kmsg does: its place, and its end for writing.
func fakeKernelLog() (path string, to int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_DIRECT); err != nil { // a packet a write, pipe(2)
		return "", -1, err
	}
	_, err = unix.FcntlInt(uintptr(ends[1]), unix.F_SETPIPE_SZ, 1<<20)
	return fmt.Sprintf("/proc/self/fd/%d", ends[0]), ends[1], err
}

// What a resting logd costs, also one that has kept its log on disk just now: it is never woken, and, where figures are
// asked for, holds little memory.
func TestIdleCost(t *testing.T) {
	t.Run("memory", func(t *testing.T) { idleCost(t, 2560) })
	t.Run("disk", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "archive")
		t.Setenv("LOGD_ARCHIVE", dir)
		idleCost(t, 2816) // a flush leaves a thread, and pages that are not wholly free
		if n := len(archived(t, dir)); n < 20_000 {
			t.Errorf("%d entries on disk", n)
		}
	})
}

// idleCost allows limit kB of memory.
func idleCost(t *testing.T, limit int) {
	dir := shmDir(t)
	cfg := configIn(dir)
	kmsg := "/dev/kmsg"
	if f, err := os.Open(kmsg); err != nil {
		kmsg = NoKmsg
	} else {
		f.Close()
	}
	for i := range 20 {
		file := producer(t, cfg, pipe.Source{Kind: pipe.Service, Name: fmt.Sprintf("s%d", i), Stream: pipe.Stdout})
		fmt.Fprintf(file, "hello from %d\n", i)
	}
	cmd := logdProcess(t, dir, kmsg)
	defer cmd.Wait()
	defer cmd.Process.Kill()
	awaitSocket(t, cfg)
	follow(t, cfg, query.Filter{Kinds: []string{pipe.Service}}, 20)
	busy := producer(t, cfg, web) // so much that chunks are packed
	for range 20 {
		busy.WriteString(strings.Repeat("GET /index.html HTTP/1.1 200 from 192.168.17.4 in 13 ms\n", 1000))
	}
	testenv.WaitFor(t, "a packed chunk", func() bool { return packedChunks(t, cfg) > 0 })
	testenv.WaitFor(t, "two seconds without a wake-up", func() bool {
		before := wakeups(t, cmd.Process.Pid)
		time.Sleep(2 * time.Second) // sleep: the rest that is looked at
		return wakeups(t, cmd.Process.Pid) == before
	})
	if !testenv.Figures() {
		return
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", cmd.Process.Pid))
	if err != nil {
		testenv.Lacking(t, "smaps_rollup: %v", err)
	}
	for line := range strings.Lines(string(rollup)) {
		if strings.HasPrefix(line, "Rss") || strings.HasPrefix(line, "Private_Dirty") ||
			strings.HasPrefix(line, "Anonymous") {
			t.Log(strings.TrimSpace(line))
		}
		if size, ok := strings.CutPrefix(line, "Anonymous:"); ok {
			if n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(size), " kB")); err != nil ||
				n > limit && !underRace() {
				t.Errorf("anonymous memory at rest %s, want at most %d kB", strings.TrimSpace(size), limit)
			}
		}
	}
}

// underRace reports whether the race detector is in, which needs memory of its own.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// wakeups is how often the threads of a process have waited for something that then came.
func wakeups(t *testing.T, pid int) (count int) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads of process %d: %v", pid, err)
	}
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended, and was awake for that: the next look differs
		}
		_, rest, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
		line, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		count += n
	}
	return count
}

// BenchmarkThrough is the whole way: a producer's write, pipe, spool, ring.
func BenchmarkThrough(b *testing.B) {
	cfg := configIn(shmDir(b))
	cfg.RingBytes = ring.DefaultSize
	start(b, cfg)
	file := producer(b, cfg, web)
	text := []byte(strings.Repeat("x", 99) + "\n")
	block := bytes.Repeat(text, 40)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	var before, after unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &before)
	for i := 0; i < b.N; i += 40 {
		if _, err := file.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	fmt.Fprint(file, "done\n")
	for last := ""; last != "done"; {
		err := query.Query(b.Context(), cfg.Socket, query.Filter{Last: 1},
			func(e entry.Entry) error { last = e.Message; return nil })
		if err != nil {
			b.Fatal(err)
		}
	}
	unix.Getrusage(unix.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/line") // the producer's too
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

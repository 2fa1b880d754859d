package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/guard"
)

func serving(t *testing.T) string {
	t.Helper()
	testenv.NeedRoot(t, "a server that answers nobody else")
	path := filepath.Join(t.TempDir(), "control.sock")
	handlers := map[string]Handler{
		"echo": func(_ context.Context, args json.RawMessage) (any, error) {
			var a struct{ Text string }
			if err := Args(args, &a); err != nil {
				return nil, err
			}
			return a.Text, nil
		},
		"big":  func(context.Context, json.RawMessage) (any, error) { return strings.Repeat("x", 4<<20), nil },
		"bad":  func(context.Context, json.RawMessage) (any, error) { return func() {}, nil },
		"fail": func(context.Context, json.RawMessage) (any, error) { return nil, &Error{"it fails", "type that"} },
		"wait": func(ctx context.Context, _ json.RawMessage) (any, error) { <-ctx.Done(); return nil, ctx.Err() },
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- Serve(ctx, path, handlers, slog.New(slog.DiscardHandler)) }()
	testenv.WaitFor(t, "a server", func() bool {
		c, err := net.Dial("unix", path)
		return err == nil && c.Close() == nil
	})
	t.Cleanup(func() {
		cancel()
		if err := testenv.Receive(t, "the end of Serve", over); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve returns %v", err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is left behind")
		}
	})
	return path
}

func call(t *testing.T, path, op string, args, result any) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	return Call(ctx, path, op, args, result)
}

func TestCall(t *testing.T) {
	path := serving(t)
	var text string
	if err := call(t, path, "echo", map[string]string{"text": "hello\n<&>"}, &text); err != nil ||
		text != "hello\n<&>" {
		t.Errorf("echo gives %q, %v", text, err)
	}
	if err := call(t, path, "big", nil, &text); err != nil || len(text) != 4<<20 {
		t.Errorf("big gives %d bytes, %v", len(text), err)
	}
	for op, want := range map[string]Error{
		"fail": {"it fails", "type that"}, "nothing": {"no operation nothing", "known: bad, big, echo, fail, wait"},
	} {
		err := call(t, path, op, nil, nil)
		var e *Error
		if !errors.As(err, &e) || *e != want {
			t.Errorf("%s gives %v", op, err)
		}
	}
	if err := call(t, path, "echo", map[string]int{"nmae": 1}, nil); err == nil {
		t.Error("an unknown argument is accepted")
	}
	if err := call(t, path, "bad", nil, nil); err == nil {
		t.Error("a result that cannot be sent is a success")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v", info.Mode(), err)
	}
	if err := call(t, filepath.Join(t.TempDir(), "none"), "echo", nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing socket gives %v", err)
	}
}

// TestBadClients: one that sends garbage, too much, nothing, half a line, or never reads, and a
// crowd; somebody well-behaved is served meanwhile.
func TestBadClients(t *testing.T) {
	path := serving(t)
	for _, line := range []string{"garbage\n", `{"version":2,"op":"echo"}` + "\n", `{"version":1,"op":"echo","x":1}` +
		"\n", strings.Repeat("x", MaxRequest+10) + "\n", "\x00\xff\n"} {
		c := dial(t, path)
		c.Write([]byte(line)) // may be cut off
		answer, _ := bufio.NewReader(c).ReadString('\n')
		if !strings.Contains(answer, `"ok":false`) {
			t.Errorf("%.30q is answered %.80q", line, answer)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("after %.30q the client is kept", line)
		}
	}
	deaf := dial(t, path) // asks for 400 MB and reads none of it
	for range 100 {
		deaf.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		deaf.Write([]byte(`{"version":1,"op":"big"}` + "\n"))
	}
	dial(t, path).Write([]byte(`{"version":1,`))
	var text string
	if err := call(t, path, "echo", map[string]string{"text": "still here"}, &text); err != nil ||
		text != "still here" {
		t.Errorf("beside bad clients: %q, %v", text, err)
	}
	first := dial(t, path)
	for range 500 {
		dial(t, path)
	}
	answer, _ := bufio.NewReader(first).ReadString('\n')
	if !strings.Contains(answer, "too many clients") {
		t.Errorf("the first of a silent crowd is told %q", answer)
	}
	if err := call(t, path, "echo", map[string]string{"text": "next"}, &text); err != nil || text != "next" {
		t.Errorf("after a silent crowd: %q, %v", text, err)
	}
}

// TestAllBusy: when every place is taken by a request under way, the next client is told so, though it has written
// already.
func TestAllBusy(t *testing.T) {
	path := serving(t)
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	for range maxClients {
		calls.Go(func() { Call(ctx, path, "wait", nil, nil) })
	}
	var refused *Error
	for !errors.As(call(t, path, "echo", nil, nil), &refused) { // until all of them are under way
		runtime.Gosched()
	}
	if refused.Text != "too many clients" {
		t.Errorf("the next is told %q", refused.Text)
	}
	cancel()
	calls.Wait()
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(testenv.Patience()))
	return c
}

func TestManyLinesOneClient(t *testing.T) {
	path := serving(t)
	c := dial(t, path)
	in := bufio.NewReader(c)
	for i := range 100 {
		fmt.Fprintf(c, "\n{\"version\":1,\"op\":\"echo\",\"args\":{\"text\":\"%d\"}}\n", i)
		line, err := in.ReadString('\n')
		if err != nil || line != fmt.Sprintf(`{"version":1,"ok":true,"result":"%d"}`+"\n", i) {
			t.Fatalf("line %d: %q, %v", i, line, err)
		}
	}
}

// TestEndAnswersWaiters: a handler under way ends with the server, and its client is told.
func TestEndAnswersWaiters(t *testing.T) {
	path := serving(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := Call(ctx, path, "wait", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call that runs out of time gives %v", err)
		}
	})
	wg.Wait()
}

// TestPanicIsTold: a handler that panics costs its client the connection and nobody else anything.
func TestPanicIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	socket, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	told := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	s := Server{Socket: socket, Log: slog.New(slog.DiscardHandler),
		Guard: &guard.Guard{Caught: func(name string, cause any, _ []byte) {
			told <- fmt.Sprint(name, ": ", cause)
		}}, Handlers: map[string]Handler{
			"bad": func(context.Context, json.RawMessage) (any, error) { panic("oops") },
			"ok":  func(context.Context, json.RawMessage) (any, error) { return 1, nil },
		}}
	go func() { over <- s.Run(ctx) }()
	if err := call(t, path, "bad", nil, nil); err == nil {
		t.Error("a panic is a success")
	}
	if got := <-told; got != "control client: oops" {
		t.Errorf("the guard is told %q", got)
	}
	for range 2 * maxClients { // the slot of the client is free again
		if err := call(t, path, "ok", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-over
	// The socket outlives its server: who calls now waits for the next one.
	late := dial(t, path)
	fmt.Fprintln(late, `{"version":1,"op":"ok"}`)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() { over <- s.Run(ctx) }()
	if line, err := bufio.NewReader(late).ReadString('\n'); err != nil || line != `{"version":1,"ok":true,"result":1}`+
		"\n" {
		t.Errorf("a client that came between two servers gets %q, %v", line, err)
	}
	cancel()
	<-over
}

func TestOnlyRoot(t *testing.T) {
	path := serving(t)
	for dir := filepath.Dir(path); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o666); err != nil { // as if the first line of defence had failed
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(filepath.Dir(path), "client")
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied)
	cmd.Env = []string{clientVariable + "=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "only root may do this") {
		t.Errorf("a client that is not root is told %q, %v", out, err)
	}
}

const clientVariable = "RESINOS_CONTROL_CLIENT"

func TestMain(m *testing.M) {
	if path := os.Getenv(clientVariable); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		io.Copy(os.Stdout, c)
		return
	}
	os.Exit(m.Run())
}

func FuzzDecodeRequest(f *testing.F) {
	for _, seed := range []string{
		`{"version":1,"op":"status"}`, `{"version":1,"op":"stop","args":{"name":"netd"}}`, `{"version":2,"op":"x"}`,
		`{"version":1,"op":"a"}{"version":1}`, `{"version":1,"op":"UP"}`, `[]`, "", "\xff", `{"version":1e0,"op":"a"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := DecodeRequest(line)
		if err != nil {
			return
		}
		if r.Version != Version || !validOp(r.Op) || len(line) > MaxRequest {
			t.Errorf("DecodeRequest(%q) = %+v", line, r)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatalf("%+v cannot be sent: %v", r, err)
		}
		if _, err := DecodeRequest(again); err != nil && len(again) <= MaxRequest {
			t.Errorf("what was decoded of %q is not understood again: %v", line, err)
		}
	})
}

// TestFoundMeansListening: nobody who finds the socket is refused, however early.
func TestFoundMeansListening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 300 {
		made := make(chan *os.File)
		go func() {
			f, err := Listen(path)
			if err != nil {
				t.Error(err)
			}
			made <- f
		}()
		for {
			conn, err := net.Dial("unix", path)
			if err == nil {
				conn.Close()
				break
			}
			if !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		if err := errors.Join((<-made).Close(), os.Remove(path)); err != nil {
			t.Fatal(err)
		}
	}
}

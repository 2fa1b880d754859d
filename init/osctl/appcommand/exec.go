package appcommand

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"resinos/containers/appcontrol"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
)

// execute runs a command in a container. The manager only says how to start it; from then on osctl needs nothing but
// the OCI runtime, and ends as the command ends, also if manager and engine are gone.
func execute(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	return inContainer(ctx, s, flags, args, 2, Client(s).Exec)
}

// runNew runs a command in a container of its own, which the manager creates like that of a service, and has the
// manager stop it at the end. If osctl dies before, or the manager does not run then, the container ends by itself when
// nothing runs in it any more (init/oneoff).
func runNew(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	flags.Bool("rm", true, "has no effect: the container is always removed when it ends")
	id := ""
	ask := func(ctx context.Context, e appcontrol.Exec) (appcontrol.Program, error) {
		defer s.Waiting("starting a container like " + screen.Escape(e.App.String()))()
		p, err := Client(s).Run(ctx, e)
		id = p.ID
		return p, err
	}
	err := inContainer(ctx, s, flags, args, 1, ask)
	if id != "" {
		_ = Client(s).Change(ctx, appcontrol.OpStop, appcontrol.Parse(id))
	}
	return err
}

// inContainer runs a command in the container and in the way that ask returns. args has at least least entries.
func inContainer(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string, least int,
	ask func(context.Context, appcontrol.Exec) (appcontrol.Program, error)) error {
	var e appcontrol.Exec
	interactive := flags.Bool("i", false, "passes standard input to the command")
	flags.BoolVar(&e.TTY, "t", false, "gives the command a terminal")
	flags.Func("e", "sets the variable `NAME=VALUE` for the command; may be repeated", func(v string) error {
		if name, _, found := strings.Cut(v, "="); !found || name == "" {
			return errors.New("not NAME=VALUE")
		}
		e.Env = append(e.Env, v)
		return nil
	})
	flags.StringVar(&e.User, "u", "", "runs it as `USER`, a name in the container or UID[:GID]")
	flags.StringVar(&e.Dir, "w", "", "runs it in the directory `DIR`")
	if err := flags.Parse(split(args)); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return cli.Misuse(err.Error(), "try: osctl help "+flags.Name())
	}
	if flags.NArg() < least {
		return cli.Misuse(flags.Name()+" needs a container and a command",
			"try: osctl "+flags.Name()+" -it APP.SERVICE sh")
	}
	e.App, e.Args = appcontrol.Parse(flags.Arg(0)), flags.Args()[1:]
	in := os.Stdin
	if e.TTY && !screen.IsTerminal(in) {
		return cli.Advise(errors.New("standard input is no terminal"), "leave -t out")
	}
	if e.TTY {
		if size, err := unix.IoctlGetWinsize(int(in.Fd()), unix.TIOCGWINSZ); err == nil {
			e.Rows, e.Columns = uint(size.Row), uint(size.Col)
		}
	}
	program, err := ask(ctx, e)
	if err != nil {
		return Unreachable(err)
	}
	runtime.LockOSThread() // the runtime ends with the thread that starts it (Pdeathsig): it is ours until we end
	if e.TTY {
		return onTerminal(program, in, s.Stdout, *interactive)
	}
	cmd, err := command(program)
	if err != nil {
		return err
	}
	if *interactive {
		cmd.Stdin = in
	}
	cmd.Stdout, cmd.Stderr = s.Stdout, s.Stderr
	return finish(program, cmd.Run())
}

// split makes -it into -i -t, up to the first argument that is no flag.
func split(args []string) []string {
	var out []string
	for i, arg := range args {
		switch {
		case (arg == "-it" || arg == "-ti") && (i == 0 || !takesValue(args[i-1])):
			out = append(out, "-i", "-t")
		case !strings.HasPrefix(arg, "-") && (i == 0 || !takesValue(args[i-1])):
			return append(out, args[i:]...)
		default:
			out = append(out, arg)
		}
	}
	return out
}

func takesValue(arg string) bool { return arg == "-e" || arg == "-u" || arg == "-w" }

// command is the runtime's, not started yet. flags stand before the container.
func command(p appcontrol.Program, flags ...string) (*exec.Cmd, error) {
	fd, err := unix.MemfdCreate("process.json", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("describe program: %w", err)
	}
	process := os.NewFile(uintptr(fd), "process.json")
	if _, err := process.Write(p.Process); err != nil {
		process.Close()
		return nil, fmt.Errorf("describe program: %w", err)
	}
	if len(p.Args) == 0 {
		process.Close()
		return nil, errors.New("the manager sent no command: it is of another version")
	}
	args := slices.Concat(p.Args[:len(p.Args)-1], flags, p.Args[len(p.Args)-1:])
	cmd := exec.Command(p.Path, args...)
	cmd.ExtraFiles = []*os.File{process} // becomes descriptor 3
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd, nil
}

// finish makes the end of the program ours.
func finish(p appcontrol.Program, err error) error {
	var exited *exec.ExitError
	if !errors.As(err, &exited) {
		if err != nil {
			return fmt.Errorf("run in %s: %w", screen.Escape(p.ID), err)
		}
		return nil
	}
	code := exited.ExitCode()
	if status, ok := exited.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return cli.Exit(code)
}

// onTerminal runs the program on a terminal of the container, and copies between it and ours, which is raw meanwhile.
func onTerminal(p appcontrol.Program, in *os.File, out io.Writer, interactive bool) error {
	dir, err := os.MkdirTemp("", "osctl-exec-")
	if err != nil {
		return fmt.Errorf("make directory for the terminal: %w", err)
	}
	defer os.RemoveAll(dir) // it lies in RAM
	socket := filepath.Join(dir, "tty")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("wait for the terminal: %w", err)
	}
	defer l.Close() // nothing was written
	cmd, err := command(p, "--tty", "--console-socket", socket)
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr // what the runtime itself has to say
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run in %s: %w", screen.Escape(p.ID), err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		l.Close() // so that nobody waits for a terminal that does not come
	}()
	master, err := receive(l)
	if err != nil {
		return finish(p, errors.Join(<-ended, ignoreClosed(err)))
	}
	restore, err := raw(in)
	if err != nil {
		return errors.Join(err, cmd.Process.Kill(), <-ended)
	}
	defer restore()
	defer resizing(in, master)()
	if interactive {
		go io.Copy(master, in) // ends with us: nobody else reads our terminal meanwhile
	}
	// The terminal says EIO once its last program has closed it.
	if _, err := io.Copy(out, master); err != nil && !errors.Is(err, unix.EIO) {
		return errors.Join(fmt.Errorf("copy output: %w", err), cmd.Process.Kill(), <-ended)
	}
	return finish(p, <-ended)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// receive takes the terminal that the runtime has made in the container.
func receive(l *net.UnixListener) (*os.File, error) {
	conn, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer conn.Close() // nothing more comes
	text, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(text, oob)
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err == nil && len(messages) != 1 {
		err = errors.New("no descriptor came")
	}
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("receive terminal: %d descriptors: %w", len(fds), err)
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

// raw has our terminal hand on each key as it is, until restore is called.
func raw(in *os.File) (restore func(), err error) {
	fd := int(in.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read settings of the terminal: %w", err)
	}
	t := *before // as cfmakeraw(3) does
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &t); err != nil {
		return nil, fmt.Errorf("set up terminal: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil // the terminal may be gone
}

// resizing keeps the size of the container's terminal equal to ours, until stop is called.
func resizing(from, to *os.File) (stop func()) {
	follow := func() {
		if size, err := unix.IoctlGetWinsize(int(from.Fd()), unix.TIOCGWINSZ); err == nil && size.Row > 0 {
			_ = unix.IoctlSetWinsize(int(to.Fd()), unix.TIOCSWINSZ, size) // the program may have ended
		}
	}
	changed, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(changed, syscall.SIGWINCH)
	follow()
	go func() {
		for {
			select {
			case <-done:
				return
			case <-changed:
				follow()
			}
		}
	}()
	return func() { signal.Stop(changed); close(done) }
}

// Package handover passes the state of PID 1 to its next life at a re-exec: PID 1's own state as JSON in a memory file,
// the state of the supervisor in another, and the descriptors that stay open. It decides neither when PID 1 re-executes
// itself nor what the next life does with the state. Read State first.
package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/boot"
	"resinos/init/shutdown"
	"resinos/services/bootreport"
	"resinos/services/fault"
)

// stateVariable carries the number of the descriptor in which the next life finds the state of this one.
const stateVariable = "RESINOS_STATE"

// stateVersion is that of the state's form. Another one is not guessed at.
const stateVersion = 1

// State is everything that PID 1 takes along when it executes itself again.
type State struct {
	Version int               `json:"version"`
	Now     time.Duration     `json:"now"` // when the old life stood still
	CPU     time.Duration     `json:"cpu"` // what it had used by then
	Report  bootreport.Report `json:"report"`
	Inputs  boot.Inputs       `json:"inputs"`
	Down    *shutdown.Saved   `json:"down,omitempty"`
	Marking bool              `json:"marking,omitempty"` // the marker of this boot is not on the disk yet

	Passed []passed `json:"files"` // the descriptors

	// Supervisor is what the supervisor saved, in a memory file of its own: what is large is not encoded twice. Nil
	// when it could not be asked.
	Supervisor []byte `json:"-"`

	held *os.File // keeps that file open until the exec
}

// passed is a descriptor that stays open over the exec.
type passed struct {
	Kind string `json:"kind"`
	Name string `json:"name,omitempty"` // of the service whose log pipe it is
	FD   int    `json:"fd"`
}

// The kinds of passed descriptors.
const (
	Control    = "control"    // the listening control socket
	Watchdog   = "watchdog"   // the running watchdog
	Log        = "log"        // PID 1's own log pipe
	Pipe       = "pipe"       // the log pipe of a service
	services   = "services"   // what the supervisor saved
	Supervisor = "supervisor" // one of the supervisor's files, in its order
)

// maxState bounds what is believed to be a state.
const maxState = 64 << 20

// Encode writes the state into memory files and returns the one that the next life looks for. Those that it names stay
// open.
func (s *State) Encode() (*os.File, error) {
	s.Version = stateVersion
	if s.Supervisor != nil {
		f, err := memory(s.Supervisor)
		if err != nil {
			return nil, err
		}
		if err := s.Add(services, "", f); err != nil {
			return nil, err
		}
		s.held = f
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("save state: %w", err)
	}
	return memory(text)
}

// memory makes a memory file with the given content.
func memory(content []byte) (*os.File, error) {
	if err := fault.Call("memfd"); err != nil {
		return nil, fmt.Errorf("save state: %w", err)
	}
	fd, err := unix.MemfdCreate("resinos-state", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("save state: %w", err)
	}
	f := os.NewFile(uintptr(fd), "state")
	if _, err := f.WriteAt(content, 0); err != nil {
		return nil, fmt.Errorf("save state: %w", errors.Join(err, f.Close()))
	}
	return f, nil
}

// Take reads what an earlier life of PID 1 left, nil if this is the first. Every descriptor of it is closed on the next
// exec again when it returns.
func Take() (*State, error) {
	number, again := os.LookupEnv(stateVariable)
	if !again {
		return nil, nil
	}
	_ = os.Unsetenv(stateVariable) // fails only for malformed names
	fd, err := strconv.Atoi(number)
	if err != nil || fd <= 2 {
		return nil, fmt.Errorf("take state: %s=%q is no descriptor", stateVariable, number)
	}
	text, err := drain(os.NewFile(uintptr(fd), "state"))
	if err != nil {
		return nil, err
	}
	s, err := decode(text)
	if err != nil {
		return nil, err
	}
	if f := s.File(services); f != nil {
		s.Supervisor, err = drain(f)
	}
	return s, err
}

// drain reads a memory file whole and closes it.
func drain(f *os.File) ([]byte, error) {
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil || info.Size() > maxState {
		return nil, errors.Join(errors.New("take state: it is no state"), err)
	}
	text := make([]byte, info.Size())
	if _, err := f.ReadAt(text, 0); err != nil {
		return nil, fmt.Errorf("take state: %w", err)
	}
	return text, nil
}

func decode(text []byte) (*State, error) {
	s := new(State)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("decode state: %w", err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("decode state: version %d is not spoken here, only %d", s.Version, stateVersion)
	}
	for _, p := range s.Passed {
		if p.FD <= 2 {
			return nil, fmt.Errorf("decode state: descriptor %d is not one of ours", p.FD)
		}
	}
	return s, nil
}

// Add notes a file to be passed on; name is that of the service for a Pipe.
func (s *State) Add(kind, name string, f *os.File) error {
	fd, err := number(f)
	if err == nil {
		s.Passed = append(s.Passed, passed{kind, name, fd})
	}
	return err
}

// number is the file's descriptor. Not File.Fd, which would put the open file into blocking mode.
func number(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = raw.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}

// Files opens what was passed on, by kind, in the order it was added.
func (s *State) Files(kind string) (all []*os.File, names []string) {
	for _, p := range s.Passed {
		if p.Kind == kind {
			all, names = append(all, os.NewFile(uintptr(p.FD), kind+" "+p.Name)), append(names, p.Name)
		}
	}
	return all, names
}

// Numbers lists what was passed on, for those who open it themselves.
func (s *State) Numbers(kind string) (all []int) {
	for _, p := range s.Passed {
		if p.Kind == kind {
			all = append(all, p.FD)
		}
	}
	return all
}

// File opens the first file of a kind that was passed on, nil if there is none.
func (s *State) File(kind string) *os.File {
	all, _ := s.Files(kind)
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

// inherit marks everything that the next life needs, or takes the marks back.
func (s *State) inherit(also int, yes bool) {
	flag := unix.FD_CLOEXEC
	if yes {
		flag = 0
	}
	for _, p := range s.Passed {
		_, _ = unix.FcntlInt(uintptr(p.FD), unix.F_SETFD,
			flag) // fails only for a closed descriptor, which the next life notices
	}
	_, _ = unix.FcntlInt(uintptr(also), unix.F_SETFD, flag)
}

// nextInit is the program that PID 1 executes: the installed one, so that a new binary is used; else its own.
func nextInit() []string {
	return []string{"/usr/sbin/init", "/proc/self/exe"}
}

// Execute starts the next life with the state in file. It returns only when that cannot be done.
func (s *State) Execute(file *os.File) error {
	fd, err := number(file)
	if err != nil {
		return err
	}
	s.inherit(fd, true)
	defer s.inherit(fd, false)
	env := []string{"PATH=" + os.Getenv("PATH"), stateVariable + "=" + strconv.Itoa(fd)}
	var faults []error
	for _, path := range nextInit() {
		if err := fault.Call("exec"); err != nil {
			faults = append(faults, fmt.Errorf("execute %s: %w", path, err))
			continue
		}
		err := syscall.Exec(path, []string{"/usr/sbin/init"}, env)
		faults = append(faults, fmt.Errorf("execute %s: %w", path, err))
	}
	return errors.Join(faults...)
}

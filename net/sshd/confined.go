package sshd

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"resinos/services/confine"
	"resinos/services/spec"
)

// unprivileged is the number of the user sshd in /etc/passwd, which nobody else is.
const unprivileged = 74

// Confined has the process of a connection confine itself before it reads a byte (confine.Adopt): it is the user sshd, without capabilities, and
// the kernel takes from it the calls alone that read, write, wait and pass descriptors on (the profile ssh). It opens no file and no
// connection, starts nothing and signals nobody, before the login and after it. No other process may look into it, since after the login
// it holds a socket to root's.
func Confined(program func() *exec.Cmd) (func() *exec.Cmd, error) {
	orders, err := confine.Launch{Command: []string{"/proc/self/exe"}, Confinement: spec.Confinement{
		Bounded: true, NoNewPrivileges: true, Seccomp: "ssh"}}.Encode()
	if err != nil {
		return nil, err
	}
	return func() *exec.Cmd {
		cmd := program()
		// The runtime of Go interrupts its own threads by signals, which the profile does not know; without them it waits a moment longer.
		cmd.Env = append(cmd.Env, confine.Variable+"="+orders, "GODEBUG=asyncpreemptoff=1")
		cmd.Dir = "/"
		if os.Geteuid() == 0 { // who is not root cannot become somebody else, and has nothing to give up
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unprivileged, Gid: unprivileged}}
		}
		return cmd
	}, nil
}

// Confine puts on what Confined has ordered; the result is 0 or an exit code. Without orders it does nothing.
func Confine() int {
	if os.Getenv(confine.Variable) != "" {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			fmt.Fprintf(os.Stderr, "sshd: close to others: %v\n", err)
			return 1
		}
	}
	return confine.Adopt()
}

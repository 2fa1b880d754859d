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

// unprivileged is the number of the user sshd in /etc/passwd; nobody else has it.
const unprivileged = 74

// Confined makes the process of a connection confine itself before it reads a byte (confine.Adopt): it runs as the user
// sshd, without capabilities, and the kernel allows only the calls that read, write, wait and pass descriptors (the
// profile ssh). It can open no file and no connection, start no process and send no signal, before the login and after
// it. No other process may inspect it, because after the login it has a socket to root's process.
func Confined(program func() *exec.Cmd) (func() *exec.Cmd, error) {
	orders, err := confine.Launch{Command: []string{"/proc/self/exe"}, Confinement: spec.Confinement{
		Bounded: true, NoNewPrivileges: true, Seccomp: "ssh"}}.Encode()
	if err != nil {
		return nil, err
	}
	return func() *exec.Cmd {
		cmd := program()
		// Go's runtime interrupts its own threads by signals, which the profile does not allow. Without these signals
		// the runtime waits a moment longer.
		cmd.Env = append(cmd.Env, confine.Variable+"="+orders, "GODEBUG=asyncpreemptoff=1")
		cmd.Dir = "/"
		if os.Geteuid() == 0 { // a process that is not root cannot change its user, and has no rights to give up
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unprivileged,
				Gid: unprivileged}}
		}
		return cmd
	}, nil
}

// Confine applies what Confined has ordered; the result is 0 or an exit status. Without orders it does nothing.
func Confine() int {
	if os.Getenv(confine.Variable) != "" {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			fmt.Fprintf(os.Stderr, "sshd: close to others: %v\n", err)
			return 1
		}
	}
	return confine.Adopt()
}

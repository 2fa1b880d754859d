package boottest

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"resinos/mounts/testenv"
)

// clientVariable names a directory with Debian's docker client and its plugins, as .ci/docker-client makes it.
const clientVariable = "RESINOS_DOCKER_CLIENT"

// dockercli: from here on the story has the stock docker client for its device, the host command as $RESIN, and a
// static busybox as web/busybox.
func cmdDockerClient(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 0 && !neg, "dockercli")
	s := sceneOf(ts)
	dir := os.Getenv(clientVariable)
	if dir == "" {
		testenv.Lacking(s.t, "Docker's client in %s: .ci/docker-client build/docker-client; and the image "+
			"build/qemu-x86_64-docker.img: make prove", clientVariable)
	}
	resin, err := filepath.Abs(filepath.Join(top, "bin/resin"))
	ts.Check(err)
	// The device's key is new in each story. resin push and docker -H ssh:// run the ssh that is first in the path.
	programs := ts.MkAbs("programs")
	ts.Check(os.MkdirAll(programs, 0o755))
	ssh := "#!/bin/sh\nexec /usr/bin/ssh -F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null " +
		"-o LogLevel=ERROR -o BatchMode=yes \"$@\"\n"
	ts.Check(os.WriteFile(filepath.Join(programs, "ssh"), []byte(ssh), 0o755))
	ts.Setenv("PATH", fmt.Sprintf("%s:%s:%s", programs, dir, os.Getenv("PATH")))
	ts.Setenv("DOCKER_CONFIG", filepath.Join(dir, "config"))
	ts.Setenv("DOCKER_HOST", fmt.Sprintf("tcp://%s:2377", Address(s.device.number)))
	ts.Setenv("RESIN", resin)
	busybox, err := os.ReadFile("/usr/bin/busybox") // busybox-static of .ci/apt.txt
	ts.Check(err)
	ts.Check(os.MkdirAll(ts.MkAbs("web"), 0o755))
	ts.Check(os.WriteFile(ts.MkAbs("web/busybox"), busybox, 0o755))
}

package appbench

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"resinos/mounts/testenv"
)

// boot starts the engine of the world and waits until it answers.
func (w *world) boot() {
	w.t.Helper()
	if w.peer {
		w.start("containerd", "containerd", "--root", "/mnt/docker/containerd", "--state", "/run/containerd")
		w.await("test", "-S", "/run/containerd/containerd.sock")
		w.start("dockerd", "dockerd", "--data-root", "/mnt/docker/docker", "--exec-root", "/run/docker",
			"--containerd", "/run/containerd/containerd.sock", "-H", "unix:///run/docker.sock", "--pidfile",
			"/run/docker.pid")
		w.await("docker", "version")
		return
	}
	w.start("containerd", "containerd", "-manager-pipe=false", "-loader", filepath.Join(w.bin, "compose"),
		"-hold", filepath.Join(w.bin, "init"), "-runtime", filepath.Join(w.bin, "crun"), "-resolv", "/run/resolv.conf")
	w.await("osctl", "images")
}

// env has docker and its plugins find what they need.
func (w *world) env() {
	for key, value := range map[string]string{
		"DOCKER_HOST": "unix:///run/docker.sock", "DOCKER_CONFIG": "/run/docker-cli",
	} {
		if err := os.Setenv(key, value); err != nil {
			w.t.Fatal(err)
		}
	}
	plugins := "/run/docker-cli/cli-plugins"
	if err := os.MkdirAll(plugins, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(w.bin, "docker-compose"), filepath.Join(plugins, "docker-compose")); err != nil {
		w.t.Fatal(err)
	}
}

// project writes a compose file, which has a directory out with a FIFO beside it, and returns its directory. Ours runs
// as soon as the manager looks: up has it look.
func (w *world) project(name, compose string) string {
	w.t.Helper()
	dir := filepath.Join("/mnt/data/apps", name)
	if w.peer {
		dir = filepath.Join("/mnt/docker/apps", name)
	}
	err := os.MkdirAll(filepath.Join(dir, "out"), 0o777)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(compose), 0o644)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return dir
}

// up has what the compose file says run. It may return before it does.
func (w *world) up(name, dir string) {
	w.t.Helper()
	if w.peer {
		w.compose(name, dir, "up", "-d")
		return
	}
	w.each(func(pid int, program string) {
		if program == "containerd" {
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil { // as osctl reload manager does
				w.t.Fatal(err)
			}
		}
	})
}

// down removes the containers and the compose file.
func (w *world) down(name, dir string) {
	w.t.Helper()
	if w.peer {
		w.compose(name, dir, "down", "-t", "0")
	} else {
		w.command("osctl", "down", name)
	}
	if err := os.RemoveAll(dir); err != nil {
		w.t.Fatal(err)
	}
	if !w.peer {
		w.up(name, dir)
		testenv.WaitFor(w.t, "the end of app "+name, func() bool {
			return !strings.Contains(w.command("osctl", "apps"), name)
		})
	}
}

// compose runs docker compose for a project.
func (w *world) compose(name, dir string, words ...string) {
	w.t.Helper()
	w.command(append([]string{"docker", "compose", "--progress", "quiet", "-p", name, "-f",
		filepath.Join(dir, "compose.yaml")}, words...)...)
}

// pull fetches an image.
func (w *world) pull(image string) {
	w.t.Helper()
	if w.peer {
		w.command("docker", "pull", "-q", image)
		return
	}
	w.command("osctl", "pull", image)
}

// remove removes an image.
func (w *world) remove(image string) {
	w.t.Helper()
	if w.peer {
		w.command("docker", "rmi", image)
		return
	}
	w.command("osctl", "rmi", image)
}

// inside is a command line that runs a program in a container of a service.
func (w *world) inside(app, service string, words ...string) []string {
	if w.peer {
		return append([]string{"docker", "exec", app + "-" + service + "-1"}, words...)
	}
	return append([]string{"osctl", "exec", app + "." + service}, words...)
}

// single is a command line that runs a program in a new container like that of a service.
func (w *world) single(app, service, image string, words ...string) []string {
	if w.peer {
		return append([]string{"docker", "run", "--rm", "--network", app + "_default", image}, words...)
	}
	return append([]string{"osctl", "run", app + "." + service}, words...)
}

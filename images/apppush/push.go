package apppush

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// apps is the directory of the apps on the device (containers/workload).
const apps = "/mnt/data/apps"

// Target is where an app goes.
type Target struct {
	Host string // a name or an address; ssh knows it
	Port string // of ssh
	// Docker is the address of the device's Docker daemon; empty: through ssh.
	Docker string
}

// ParseTarget reads HOST or HOST:PORT; without a port it is that of resinOS.
func ParseTarget(text string) (Target, error) {
	host, port, found := strings.Cut(text, ":")
	if strings.HasPrefix(text, "[") { // an IPv6 address
		host, port, found = strings.Cut(strings.TrimPrefix(text, "["), "]:")
		host = strings.TrimSuffix(host, "]")
	}
	if !found {
		port = "22222"
	}
	if host == "" || strings.HasPrefix(host, "-") || port == "" || strings.Trim(port, "0123456789") != "" {
		return Target{}, fmt.Errorf("device %q: want HOST or HOST:PORT", text)
	}
	return Target{Host: host, Port: port}, nil
}

func (t Target) docker() string {
	if t.Docker != "" {
		return t.Docker
	}
	host := t.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return "ssh://root@" + host + ":" + t.Port
}

// Streams are where what the programs say goes.
type Streams struct{ Out, Err io.Writer }

// Read has the docker client read the compose file of the directory dir, and returns the plan.
func Read(ctx context.Context, dir string, s Streams) (Plan, error) {
	if err := clientIsThere(ctx); err != nil {
		return Plan{}, err
	}
	var config strings.Builder
	if err := compose(ctx, dir, nil, Streams{&config, s.Err}, "config").Run(); err != nil {
		return Plan{}, fmt.Errorf("read the compose file in %s: docker compose config: %w", dir, err)
	}
	return NewPlan([]byte(config.String()), dir)
}

func clientIsThere(ctx context.Context) error {
	for _, plugin := range []string{"compose", "buildx"} {
		if out, err := exec.CommandContext(ctx, "docker", plugin, "version").CombinedOutput(); err != nil {
			return fmt.Errorf("run docker %s: %w: %s; install Docker's client with its plugins: docker-cli, "+
				"docker-buildx and docker-compose in Debian", plugin, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

func compose(ctx context.Context, dir string, environment []string, s Streams, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"compose", "--project-directory", dir}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stdout, cmd.Stderr = s.Out, s.Err
	return cmd
}

// Push builds the images on the device, and makes the app run there. What is built is not sent: the app gets the
// images from the device's Docker daemon.
func (p Plan) Push(ctx context.Context, dir string, t Target, s Streams) error {
	if len(p.Images) > 0 {
		host := []string{"DOCKER_HOST=" + t.docker(), "DOCKER_CONTEXT="}
		if err := compose(ctx, dir, host, Streams{s.Err, s.Err}, "build").Run(); err != nil {
			return fmt.Errorf("build on %s: docker compose build: %w", t.Host, err)
		}
	}
	reader, writer := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := p.archive(dir, writer)
		_ = writer.CloseWithError(err) // always nil
		sent <- err
	}()
	ssh := exec.CommandContext(ctx, "ssh", "-p", t.Port, "-l", "root", t.Host, p.script())
	ssh.Stdin, ssh.Stdout, ssh.Stderr = reader, s.Out, s.Err
	err := ssh.Run()
	_ = reader.Close() // ends the archive, if ssh has ended before
	if err != nil {
		err = fmt.Errorf("deploy to %s: ssh: %w", t.Host, err)
	}
	if fault := <-sent; fault != nil && !errors.Is(fault, io.ErrClosedPipe) {
		err = errors.Join(fault, err)
	}
	return err
}

// script is what the device's shell does with the archive. The app's directory keeps what its containers have written.
func (p Plan) script() string {
	var b strings.Builder
	b.WriteString("set -e\n")
	for _, image := range p.Images {
		fmt.Fprintf(&b, "osctl load --docker %s </dev/null\n", image)
	}
	dir := apps + "/" + p.App
	fmt.Fprintf(&b, "mkdir -p %[1]s\ntar -x -C %[1]s\nmv %[1]s/%[2]s %[1]s/compose.yaml\nosctl up %[3]s\n",
		dir, arriving, p.App)
	return b.String()
}

// arriving is the compose file before it takes the place of the old one, in one step.
const arriving = ".compose.yaml.new"

// archive writes the files of the app, then its compose file.
func (p Plan) archive(dir string, to io.Writer) error {
	w := tar.NewWriter(to)
	for _, name := range p.Files {
		err := filepath.WalkDir(filepath.Join(dir, name), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return add(w, dir, path, e)
		})
		if err != nil {
			return fmt.Errorf("send %s: %w", name, err)
		}
	}
	head := tar.Header{Name: arriving, Mode: 0o600, Size: int64(len(p.Compose)), ModTime: time.Now()}
	err := w.WriteHeader(&head)
	if err == nil {
		_, err = w.Write(p.Compose)
	}
	return errors.Join(err, w.Close())
}

// add adds one file; links stay links, and what is neither file, directory nor link is left out.
func add(w *tar.Writer, dir, path string, e fs.DirEntry) error {
	below, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	info, err := e.Info()
	if err != nil || !info.Mode().IsRegular() && !info.IsDir() && info.Mode().Type() != fs.ModeSymlink {
		return err
	}
	link := ""
	if info.Mode().Type() == fs.ModeSymlink {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	head, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	// On the device everything is root's: who has it here says nothing there.
	head.Name, head.Uid, head.Gid, head.Uname, head.Gname = filepath.ToSlash(below), 0, 0, "", ""
	if err := w.WriteHeader(head); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	_, err = io.Copy(w, f)
	return err
}

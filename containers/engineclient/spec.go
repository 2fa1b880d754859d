package engineclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/oci"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"resinos/containers/app"
	"resinos/containers/health"
	"resinos/containers/ocispec"
	"resinos/containers/plan"
)

// record is containerd's record of a container, as package oci calls it.
type record = containers.Container

const (
	// groupAnnotation makes containerd's shim serve all containers of an app: 0.1 MB a container
	// instead of 3.8.
	groupAnnotation = "io.containerd.runc.v2.group"
	defaultPath     = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Create creates the container, its root file system and its OCI spec.
func (c *Containerd) Create(ctx context.Context, w plan.Want) error {
	client, ctx := c.link(ctx)
	image, err := client.GetImage(ctx, w.Image)
	if err != nil {
		return fmt.Errorf("find container image %s: %w", w.Image, err)
	}
	unpacked, err := image.IsUnpacked(ctx, c.Snapshotter)
	if err == nil && !unpacked { // a power cut came between import and unpack
		err = c.Store.Unpack(ctx, w.Image)
	}
	if err != nil {
		return err
	}
	config, err := imageConfig(ctx, image)
	if err != nil {
		return err
	}
	// Removes what an interrupted Create left; usually nothing. If that fails, the next call reports it.
	_ = client.SnapshotService(c.Snapshotter).Remove(ctx, w.ID())
	first, done, err := c.ownUsers(ctx, w.Container)
	if err != nil {
		return err
	}
	defer done()
	labels := map[string]string{
		labelApp:   w.App,
		labelWish:  w.Digest(),
		labelHold:  w.Hold,
		labelImage: image.Target().Digest.String(),
		labelGrace: w.StopGrace.String(),
		labelStop:  cmp.Or(w.StopSignal, config.StopSignal, "SIGTERM"),
		labelNeeds: needsLabel(w.DependsOn),
	}
	spec := c.specOptions(w.Container, config.ImageConfig, plainFiles{client.SnapshotService(c.Snapshotter)})
	if first != 0 {
		labels[labelUsers] = strconv.FormatUint(uint64(first), 10)
		spec = append(spec, withUsers(first))
	}
	_, err = client.NewContainer(ctx, w.ID(),
		containerd.WithImage(image),
		containerd.WithSnapshotter(c.Snapshotter),
		containerd.WithNewSnapshot(w.ID(), image, shifted(first)...),
		containerd.WithContainerLabels(labels),
		withCheck(health.Resolve(w.Healthcheck, config.Image)),
		containerd.WithNewSpec(spec...),
		// a keyring for each container would cost a call at each start, and is not needed: seccomp forbids keyctl
		containerd.WithRuntime(runtimeName, &options.Options{BinaryName: c.Runtime, Root: c.RuntimeRoot,
			NoNewKeyring: true, IoUid: first, IoGid: first}),
	)
	return err
}

// maxLabel is containerd's limit on name and value of a label together.
const maxLabel = 4096

// needsLabel returns the names of the services that a container depends on. Only the order of stops uses it, so names
// that no longer fit into a label are left out.
func needsLabel(list []app.Dependency) string {
	var names []string
	for _, d := range list {
		names = append(names, d.Service)
	}
	if text := strings.Join(names, " "); len(labelNeeds)+len(text) <= maxLabel {
		return text
	}
	return ""
}

// config is the configuration of a container image, with Docker's additions to the OCI format.
type config struct {
	v1.ImageConfig
	health.Image
}

func imageConfig(ctx context.Context, image containerd.Image) (config, error) {
	desc, err := image.Config(ctx)
	if err != nil {
		return config{}, fmt.Errorf("read container image %s: %w", image.Name(), err)
	}
	data, err := content.ReadBlob(ctx, image.ContentStore(), desc)
	if err != nil {
		return config{}, fmt.Errorf("read container image %s: %w", image.Name(), err)
	}
	var out struct{ Config config }
	if err := json.Unmarshal(data, &out); err != nil {
		return config{}, fmt.Errorf("read configuration of container image %s: %w", image.Name(), err)
	}
	return out.Config, nil
}

// specOptions applies the settings of the image and of the app to containerd's default spec.
func (c *Containerd) specOptions(want app.Container, image v1.ImageConfig, files snapshots.Snapshotter) []oci.SpecOpts {
	opts := []oci.SpecOpts{
		oci.WithCgroup(path.Join(c.CgroupRoot, want.ID())),
		oci.WithAnnotations(map[string]string{groupAnnotation: want.App}),
		withProcess(want, image),
		c.Volumes.Mounts(want, files),
	}
	if name := cmp.Or(want.User, image.User); name != "" || len(want.Groups) > 0 {
		opts = append(opts, withUser(cmp.Or(name, "0"), want.Groups, files))
	}
	opts = append(opts, c.network(want)...)
	opts = append(opts, ocispec.WithInit(want, c.Init))
	opts = append(opts, ocispec.Options(want)...)
	return append(append(opts, c.withoutWeight(want)), c.sharedShm(want)...)
}

// withProcess combines the process of the image with that of the app by compose's rules: an entrypoint of the app
// discards the image's command too.
func withProcess(want app.Container, image v1.ImageConfig) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *record, s *specs.Spec) error {
		args, err := arguments(want, image)
		if err != nil {
			return err
		}
		s.Process.Args = args
		s.Process.Cwd = cmp.Or(want.WorkingDir, image.WorkingDir, "/")
		s.Process.Terminal = want.TTY
		var terminal []string
		if want.TTY {
			terminal = []string{"TERM=xterm"} // as docker does
		}
		s.Process.Env = environment(terminal, image.Env, want.Environment)
		return nil
	}
}

func arguments(want app.Container, image v1.ImageConfig) ([]string, error) {
	entrypoint, command := image.Entrypoint, image.Cmd
	if want.Entrypoint != nil {
		entrypoint, command = want.Entrypoint, nil
	}
	if want.Command != nil {
		command = want.Command
	}
	args := append(append([]string{}, entrypoint...), command...)
	if len(args) == 0 {
		return nil, errors.New("neither the app nor the container image names a command")
	}
	return args, nil
}

// environment replaces earlier variables by later ones of the same name, in place.
func environment(lists ...[]string) []string {
	out := []string{defaultPath}
	at := map[string]int{"PATH": 0}
	for _, list := range lists {
		for _, v := range list {
			name, _, _ := strings.Cut(v, "=")
			if i, ok := at[name]; ok {
				out[i] = v
				continue
			}
			at[name] = len(out)
			out = append(out, v)
		}
	}
	return out
}

// network sets the network namespace, the host name and the files with names of the container.
func (c *Containerd) network(want app.Container) []oci.SpecOpts {
	if want.Joined(string(specs.NetworkNamespace)) != "" {
		opts := []oci.SpecOpts{oci.WithHostname(want.Hostname)}
		if want.NamesOf != "" {
			opts = append(opts, withFiles(c.Networks.FilesOf(want.App+"."+want.NamesOf)))
		}
		return opts
	}
	switch want.Network {
	case app.NetworkHost:
		opts := []oci.SpecOpts{oci.WithHostNamespace(specs.NetworkNamespace)}
		if name, err := os.Hostname(); err == nil {
			opts = append(opts, oci.WithHostname(name))
		}
		return append(opts, withFiles(c.Resolv, c.Hosts))
	case app.NetworkBridge:
		return []oci.SpecOpts{oci.WithHostname(want.Service), withFiles(c.Networks.FilesOf(want.ID()))}
	}
	return []oci.SpecOpts{oci.WithHostname(want.Service)}
}

// withFiles binds these files to the container's /etc/resolv.conf and /etc/hosts.
func withFiles(resolv, hosts string) oci.SpecOpts {
	var mounts []specs.Mount
	for _, m := range []struct{ from, to string }{{resolv, "/etc/resolv.conf"}, {hosts, "/etc/hosts"}} {
		if m.from != "" {
			mounts = append(mounts, specs.Mount{Type: "bind", Source: m.from, Destination: m.to,
				Options: []string{"rbind", "ro", "nosuid", "nodev", "noexec"}})
		}
	}
	return oci.WithMounts(mounts)
}

package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"resinos/bsp/slot"
	"resinos/images/apps"
	"resinos/images/assemble"
	"resinos/images/bootscript"
	"resinos/images/layout"
	"resinos/images/logo"
	"resinos/images/ociimage"
	"resinos/mounts/persist"
	"resinos/mounts/purge"
	"resinos/services/config"
)

// bootTree returns the content of resin-boot: the bootloader, its script and variables, and the files that a person may
// edit.
func (b *builder) bootTree(_ context.Context, m slot.Manifest) (*assemble.Tree, error) {
	tree := &assemble.Tree{}
	files, err := b.bootScript()
	if err != nil {
		return nil, err
	}
	deviceType, err := json.MarshalIndent(map[string]string{"slug": b.Board, "name": b.board.Description, "arch": b.board.Arch}, "", "  ")
	if err != nil {
		return nil, err
	}
	files["device-type.json"] = append(deviceType, '\n')
	files["config.json"] = configJSON(b.Board, b.Variant)
	files["image-version-info"] = fmt.Appendf(nil, "resinOS %s\nboard %s\nvariant %s\nkernel %s\n", m.Version, m.Board, m.Variant, m.Kernel)
	files["system-connections/resin-sample"] = []byte(sampleProfile)
	files["splash/resin-logo.png"] = logo.PNG()
	var faults []error
	for name, text := range files {
		faults = append(faults, tree.Add(assemble.Entry{Path: name, Mode: 0o644, Content: text}))
	}
	for _, f := range b.board.Bootloader.Files {
		source, err := b.one(b.board.Bootloader.Package, f.Source)
		faults = append(faults, err)
		if err == nil {
			faults = append(faults, tree.Add(assemble.Entry{Path: f.Target, Mode: 0o644, Source: source}))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return tree, addFingerprint(tree, "boot")
}

// configJSON returns the configuration of a device that nobody has set up. A development image has the host name resin,
// as in the reference system, so that its developer finds it by name; without the key the host name of each device is
// its UUID.
func configJSON(board, variant string) []byte {
	if variant == "production" {
		return fmt.Appendf(nil, "{\n  %q: %q\n}\n", config.DeviceType, board)
	}
	return fmt.Appendf(nil, "{\n  %q: %q,\n  %q: \"resin\"\n}\n", config.DeviceType, board, config.Hostname)
}

// sampleProfile shows the format of a network profile; the name resin-sample is that of the reference system.
const sampleProfile = `# A profile of a Wi-Fi network. Copy it to a name of your own and remove the # signs.
#[connection]
#id=my-wifi
#type=wifi
#
#[wifi]
#ssid=MY NETWORK
#
#[wifi-security]
#key-mgmt=wpa-psk
#psk=MY PASSPHRASE
#
#[ipv4]
#method=auto
`

func (b *builder) bootScript() (bootscript.Files, error) {
	number := func(label string) int {
		for i, p := range b.board.Disk.Partitions {
			if p.Label == label {
				return i + 1
			}
		}
		return 0
	}
	s := bootscript.Script{
		Kind: b.board.Bootloader.Kind, Arch: b.board.Arch, Variant: b.Variant, Consoles: b.board.Console.Devices, Board: b.board.Kernel.Arguments, Memory: b.board.Kernel.Memory, Prompt: b.board.Bootloader.Prompt,
		PartitionA: number(layout.RootA), PartitionB: number(layout.RootB),
	}
	if trees := b.board.Kernel.DeviceTrees; len(trees) > 0 {
		s.DeviceTree = path.Base(trees[0])
	}
	return s.Render(b.epoch)
}

// stateTree returns the content of resin-state before the first boot.
func (b *builder) stateTree(context.Context, slot.Manifest) (*assemble.Tree, error) {
	tree := &assemble.Tree{}
	return tree, errors.Join(tree.Add(assemble.Entry{Path: persist.Overlay, Mode: fs.ModeDir | 0o755}), unmarked(tree))
}

// unmarked adds the file that means that nothing is to be purged.
func unmarked(tree *assemble.Tree) error {
	return errors.Join(tree.Add(assemble.Entry{Path: purge.Flag, Mode: 0o644}), tree.Add(assemble.Entry{Path: purge.Armed, Mode: 0o644}))
}

// dataTree returns the content of resin-data before the first boot: the apps to preload.
func (b *builder) dataTree(context.Context, slot.Manifest) (*assemble.Tree, error) {
	tree := &assemble.Tree{}
	faults := []error{tree.Add(assemble.Entry{Path: "apps", Mode: fs.ModeDir | 0o755}), unmarked(tree)}
	for _, app := range b.Apps {
		faults = append(faults, b.addApp(tree, app))
	}
	return tree, errors.Join(faults...)
}

// addApp adds the compose file and the container images of an app, from a directory or from the builder.
func (b *builder) addApp(tree *assemble.Tree, app string) error {
	if dir, ok := apps.Builtin(app); ok {
		text, err := fs.ReadFile(dir, "compose.yaml")
		if err != nil {
			return err
		}
		image, err := b.helloImage()
		if err != nil {
			return err
		}
		return errors.Join(
			tree.Add(assemble.Entry{Path: path.Join("apps", app, "compose.yaml"), Mode: 0o644, Content: text}),
			tree.Add(assemble.Entry{Path: path.Join("apps", app, "images", app+".tar"), Mode: 0o644, Content: image}))
	}
	_, err := AddApp(tree, app)
	return err
}

// AddApp adds the compose file and the container images of an app, and returns the app's name.
func AddApp(tree *assemble.Tree, app string) (string, error) {
	dir, err := filepath.Abs(app)
	if err != nil {
		return "", err
	}
	compose, err := composeFile(dir)
	if err != nil {
		return "", fmt.Errorf("preload app %s: %w; want a directory with a compose.yaml and, if the first boot has no network, "+
			"images/*.tar", app, err)
	}
	name := strings.ToLower(filepath.Base(dir))
	faults := []error{tree.Add(assemble.Entry{Path: path.Join("apps", name, compose), Mode: 0o644,
		Source: filepath.Join(dir, compose)})}
	images, err := filepath.Glob(filepath.Join(dir, "images", "*.tar"))
	faults = append(faults, err)
	for _, file := range images {
		faults = append(faults, tree.Add(assemble.Entry{Path: path.Join("apps", name, "images", filepath.Base(file)),
			Mode: 0o644, Source: file}))
	}
	return name, errors.Join(faults...)
}

// composeFile returns the name of the compose file in dir: the first one that the device would use
// (containers/workload).
func composeFile(dir string) (string, error) {
	found := ""
	for _, name := range []string{"docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml"} { // the last one counts
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			found = name
		}
		override := strings.Replace(name, ".y", ".override.y", 1)
		if _, err := os.Stat(filepath.Join(dir, override)); err == nil {
			return "", fmt.Errorf("%s would change it, and the device does not merge files", override)
		}
	}
	if found == "" {
		return "", fmt.Errorf("find compose.yaml: %w", fs.ErrNotExist)
	}
	return found, nil
}

// helloApplets are the commands that a person who inspects the demonstration container may need.
var helloApplets = []string{
	"cat", "date", "echo", "env", "hostname", "id", "ip", "ls", "mount", "nslookup", "ping", "ps", "sh", "sleep", "uname", "wget",
}

// helloImage returns the container image of the demonstration app.
func (b *builder) helloImage() ([]byte, error) {
	file, err := b.one("busybox-static", "usr/bin/busybox")
	if err != nil {
		return nil, err
	}
	busybox, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return ociimage.Image{
		Name: "resinos/hello:latest", Arch: b.board.Arch, Busybox: busybox, Epoch: b.epoch,
		Applets: helloApplets,
	}.Archive()
}

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
	"resinos/images/appdata"
	"resinos/images/apps"
	"resinos/images/assemble"
	"resinos/images/bootscript"
	"resinos/images/layout"
	"resinos/images/logo"
	"resinos/images/ociimage"
	"resinos/mounts/packed"
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
	deviceType, err := json.MarshalIndent(map[string]string{"slug": b.Board, "name": b.board.Description,
		"arch": b.board.Arch}, "", "  ")
	if err != nil {
		return nil, err
	}
	files["device-type.json"] = append(deviceType, '\n')
	files["config.json"] = configJSON(b.Board, b.Variant)
	files["image-version-info"] = fmt.Appendf(nil, "resinOS %s\nboard %s\nvariant %s\nkernel %s\n", m.Version, m.Board,
		m.Variant, m.Kernel)
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
		Kind: b.board.Bootloader.Kind, Arch: b.board.Arch, Variant: b.Variant, Consoles: b.board.Console.Devices,
		Board: b.board.Kernel.Arguments, Memory: b.board.Kernel.Memory, Prompt: b.board.Bootloader.Prompt,
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
	return errors.Join(tree.Add(assemble.Entry{Path: purge.Flag, Mode: 0o644}),
		tree.Add(assemble.Entry{Path: purge.Armed, Mode: 0o644}))
}

// dataTree returns the content of resin-data before the first boot: the apps to preload.
func (b *builder) dataTree(ctx context.Context, _ slot.Manifest) (*assemble.Tree, error) {
	tree := &assemble.Tree{}
	faults := []error{tree.Add(assemble.Entry{Path: appdata.Apps, Mode: fs.ModeDir | 0o755}), unmarked(tree)}
	for _, app := range b.Apps {
		faults = append(faults, b.addApp(ctx, tree, app))
	}
	return tree, errors.Join(faults...)
}

// addApp adds an app of a directory, or the one that comes with the builder.
func (b *builder) addApp(ctx context.Context, tree *assemble.Tree, app string) error {
	files, ok := apps.Builtin(app)
	if !ok {
		_, err := appdata.Add(ctx, tree, app, b.loader)
		return err
	}
	work, err := os.MkdirTemp("", "resin-app-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work) // temporary files; it does no harm if they stay
	dir := filepath.Join(work, app)
	if err := os.CopyFS(dir, files); err != nil {
		return err
	}
	image, err := b.helloImage()
	if err != nil {
		return err
	}
	_, err = appdata.Add(ctx, tree, dir, b.loader)
	return errors.Join(err, tree.Add(assemble.Entry{Path: path.Join(appdata.Apps, app, "images", app+".tar"),
		Mode: 0o644, Content: image}))
}

// loaderVersion returns the version of the program that loads apps, as a device with this root finds it.
func loaderVersion(root *assemble.Tree) (string, error) {
	file, there := root.Lookup("usr/bin/compose")
	if file.Mode&fs.ModeSymlink != 0 {
		name, _, _ := strings.Cut(strings.TrimPrefix(path.Join("/usr/bin", file.Target), packed.Directory+"/"), "/")
		file, there = root.Lookup(strings.TrimPrefix(packed.Path(name)+packed.Suffix, "/"))
	}
	if !there {
		return "", errors.New("find the program that loads apps: the root has no /usr/bin/compose, or a link to no " +
			"packed file")
	}
	size := int64(len(file.Content))
	if file.Source != "" {
		var err error
		if size, err = fileSize(file.Source); err != nil {
			return "", err
		}
	}
	r, err := file.Open()
	if err != nil {
		return "", err
	}
	defer r.Close() // only read
	return packed.VersionOf(r, size)
}

// helloApplets are the commands that a person who inspects the demonstration container may need.
var helloApplets = []string{
	"cat", "date", "echo", "env", "hostname", "id", "ip", "ls", "mount", "nslookup", "ping", "ps", "sh", "sleep",
	"uname", "wget",
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

package composefile

import (
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"resinos/containers/app"
)

// mounts are the file systems that the container sees.
func (c *converter) mounts() {
	list := c.volumes("volumes", c.s.Volumes)
	for _, from := range c.s.VolumesFrom {
		list = append(list, c.volumesFrom(from, len(c.project.Services))...)
	}
	for _, t := range c.s.Tmpfs {
		target, options, _ := strings.Cut(t, ":")
		list = append(list, app.Mount{Type: app.Tmpfs, Target: target, Options: options})
	}
	for _, m := range list {
		if !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
			c.bad("volumes", "%q is no absolute path in the container below /", m.Target)
			continue
		}
		m.Target = path.Clean(m.Target)
		same := func(o app.Mount) bool { return o.Target == m.Target }
		if i := slices.IndexFunc(c.c.Mounts, same); i >= 0 {
			continue // the service's own comes before that of volumes_from
		}
		c.c.Mounts = append(c.c.Mounts, m)
	}
}

// volumesFrom are the mounts of another service of the app, with those that it has from others; compose-go has refused
// circles, and depth bounds them all the same.
func (c *converter) volumesFrom(from string, depth int) []app.Mount {
	name, mode, _ := strings.Cut(from, ":")
	other, ok := c.project.Services[name]
	if !ok || depth == 0 {
		c.bad("volumes_from", "%s is no service of the app", from)
		return nil
	}
	list := c.volumes("volumes_from", other.Volumes)
	for i := range list {
		if list[i].Type == app.Volume && list[i].Source == "" {
			list[i].Owner = name
		}
	}
	for _, further := range other.VolumesFrom {
		list = append(list, c.volumesFrom(further, depth-1)...)
	}
	for i := range list {
		list[i].ReadOnly = list[i].ReadOnly || mode == "ro"
	}
	return list
}

func (c *converter) volumes(key string, volumes []types.ServiceVolumeConfig) []app.Mount {
	var out []app.Mount
	for _, v := range volumes {
		m := app.Mount{Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly}
		switch v.Type {
		case types.VolumeTypeVolume:
			c.volume(&m, v.Volume)
		case types.VolumeTypeBind:
			m.Type = app.Bind
			if b := v.Bind; b != nil {
				m.Create, m.Propagation = bool(b.CreateHostPath), b.Propagation
			}
			if !filepath.IsAbs(m.Source) {
				c.bad(key, "%q is no absolute path on the device", m.Source)
			}
			if m.Propagation != "" && !slices.Contains([]string{"rprivate", "rslave", "rshared", "private", "slave",
				"shared"}, m.Propagation) {
				c.bad(key, "propagation %q is none: write rprivate, rslave or rshared", m.Propagation)
			}
		case types.VolumeTypeTmpfs:
			m.Type, m.Source = app.Tmpfs, ""
			if t := v.Tmpfs; t != nil {
				m.Size, m.Mode = int64(t.Size), t.Mode
			}
		default:
			c.bad(key, "type %s is not carried out: write volume, bind or tmpfs", v.Type)
			continue
		}
		out = append(out, m)
	}
	return out
}

// volume is a named volume of the app, or what its driver_opts make of it.
func (c *converter) volume(m *app.Mount, v *types.ServiceVolumeVolume) {
	m.Type = app.Volume
	if v != nil {
		m.NoCopy, m.Subpath = v.NoCopy, v.Subpath
		if m.Subpath != "" && !filepath.IsLocal(m.Subpath) {
			c.bad("volumes", "subpath %q leads out of the volume", m.Subpath)
		}
	}
	if m.Source == "" {
		return // nobody else knows it
	}
	path := "volumes." + m.Source
	if !app.ValidName(m.Source) {
		c.fault(path, "volume name is not of a-z, 0-9 and single - or _ between them: rename it")
	}
	known := c.project.Volumes[m.Source]
	options := known.DriverOpts
	switch {
	case bool(known.External):
		c.fault(path+".external",
			"an app has only volumes of its own: remove external, and copy the data into the volume")
	case known.Driver != "" && known.Driver != "local":
		c.fault(path+".driver", "driver %q does not exist, only local does", known.Driver)
	case len(options) == 0:
	case strings.Contains(","+options["o"]+",", ",bind,") && filepath.IsAbs(options["device"]):
		m.Type, m.Source, m.NoCopy, m.Subpath = app.Bind, filepath.Join(options["device"], m.Subpath), false, ""
	case options["type"] == "tmpfs":
		*m = app.Mount{Type: app.Tmpfs, Target: m.Target, ReadOnly: m.ReadOnly, Options: options["o"]}
	default:
		c.fault(path+".driver_opts", "only type: none with o: bind, and type: tmpfs are carried out")
	}
}

// files are the configs and the secrets.
func (c *converter) files() {
	for _, f := range c.s.Configs {
		object := types.FileObjectConfig(c.project.Configs[f.Source])
		c.file("configs", types.FileReferenceConfig(f), object, "/", false)
	}
	for _, f := range c.s.Secrets {
		object := types.FileObjectConfig(c.project.Secrets[f.Source])
		c.file("secrets", types.FileReferenceConfig(f), object, "/run/secrets", true)
	}
}

func (c *converter) file(key string, f types.FileReferenceConfig, object types.FileObjectConfig, dir string,
	secret bool) {
	at := key + "." + f.Source
	out := app.File{Target: f.Target, Source: object.File, Content: object.Content, Secret: secret,
		UID: c.number(key, f.UID), GID: c.number(key, f.GID)}
	if out.Target == "" {
		out.Target = f.Source
	}
	if !path.IsAbs(out.Target) {
		out.Target = path.Join(dir, out.Target)
	}
	if out.Target = path.Clean(out.Target); out.Target == "/" {
		c.bad(key, "%s has no target", f.Source)
	}
	if f.Mode != nil {
		out.Mode = uint32(*f.Mode) & 0o7777
	}
	switch {
	case bool(object.External) || object.Driver != "" || object.TemplateDriver != "":
		c.fault(at, "a device keeps none by itself: write file, environment or content")
	case out.Source == "" && out.Content == "" && object.Environment != "":
		c.fault(at, "variable %s is not set: set it in .env", object.Environment)
	case len(out.Content) > maxContent:
		c.fault(at, "larger than %d bytes: write it into a file", maxContent)
	}
	c.c.Files = append(c.c.Files, out)
}

// maxContent bounds what one config or secret holds in the compose file itself.
const maxContent = 64 << 10

func (c *converter) number(key, text string) uint32 {
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		c.bad(key, "uid and gid are numbers, %q is none", text)
	}
	return uint32(n)
}

// devices are device nodes, and rules for those that come later.
func (c *converter) devices() {
	for _, d := range c.s.Devices {
		out := app.Device{Source: d.Source, Target: d.Target, Permissions: d.Permissions}
		if out.Target == "" {
			out.Target = out.Source
		}
		if out.Permissions == "" {
			out.Permissions = "rwm"
		}
		if !strings.HasPrefix(filepath.Clean(out.Source), "/dev/") || !path.IsAbs(out.Target) {
			c.bad("devices",
				"%s:%s: write the path of a node in /dev of the device, and an absolute one in the container",
				d.Source, d.Target)
		}
		if strings.Trim(out.Permissions, "rwm") != "" {
			c.bad("devices", "permissions %q are not of r, w and m", out.Permissions)
		}
		c.c.Devices = append(c.c.Devices, out)
	}
	for _, rule := range c.s.DeviceCgroupRules {
		c.c.DeviceRules = append(c.c.DeviceRules, strings.Join(strings.Fields(rule), " "))
	}
}

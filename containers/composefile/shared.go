package composefile

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"resinos/containers/app"
)

// The namespaces that can be shared.
const joinNetwork, joinPID, joinIPC = "network", "pid", "ipc"

// nameContainers writes container:NAME as docker compose has service:NAME, with the dependency that comes with it: only
// containers of the same app can be meant, and compose-go then finds circles.
func (l *load) nameContainers(model map[string]any) {
	services, _ := model["services"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s, _ := services[name].(map[string]any)
		for _, key := range []string{"network_mode", "pid", "ipc"} {
			text, _ := s[key].(string)
			if container, ok := strings.CutPrefix(text, types.ContainerPrefix); ok {
				delete(s, key) // the fault is enough
				if other := l.serviceOf(services, "services."+name+"."+key, container); other != "" {
					s[key] = types.ServicePrefix + other
					depend(s, other, true)
				}
			}
		}
		l.nameVolumes(services, name, s)
	}
}

func (l *load) nameVolumes(services map[string]any, name string, s map[string]any) {
	list, _ := s["volumes_from"].([]any)
	var out []any
	for _, from := range list {
		text, _ := from.(string)
		container, ok := strings.CutPrefix(text, types.ContainerPrefix)
		if !ok {
			out = append(out, from)
			continue
		}
		container, mode, _ := strings.Cut(container, ":")
		if other := l.serviceOf(services, "services."+name+".volumes_from", container); other != "" {
			out = append(out, strings.TrimSuffix(other+":"+mode, ":"))
			depend(s, other, false)
		}
	}
	if list != nil {
		s["volumes_from"] = out
	}
}

// serviceOf is the service of a container, by the name that its file gives it, that docker compose gives it, or ours.
func (l *load) serviceOf(services map[string]any, path, container string) string {
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s, _ := services[name].(map[string]any)
		if given, _ := s["container_name"].(string); container == given ||
			container == l.name+"."+name || container == l.name+"-"+name+"-1" {
			return name
		}
	}
	l.fault(path, "container:%s is none of the app, and those of others cannot be shared: write service:NAME",
		container)
	return ""
}

func depend(s map[string]any, other string, restart bool) {
	on, _ := s["depends_on"].(map[string]any)
	if on == nil {
		on = map[string]any{}
		s["depends_on"] = on
	}
	if on[other] == nil {
		on[other] = map[string]any{"condition": types.ServiceConditionStarted, "restart": restart, "required": true}
	}
}

// shares follows service:NAME to the service whose namespace is meant in the end; ok is false without such a value, or
// if there is no such service.
func (c *converter) shares(key, value string, get func(*types.ServiceConfig) string) (types.ServiceConfig, bool) {
	var other types.ServiceConfig
	for range len(c.project.Services) + 1 {
		name, shared := strings.CutPrefix(value, types.ServicePrefix)
		if !shared {
			return other, other.Name != ""
		}
		var known bool
		if other, known = c.project.Services[name]; !known || name == c.s.Name {
			c.bad(key, "%s is no other service that is active", name)
			return other, false
		}
		value = get(&other)
	}
	c.bad(key, "leads back to itself")
	return other, false
}

// sharedNetwork has the container use the network of another one.
func (c *converter) sharedNetwork() {
	mode := func(s *types.ServiceConfig) string { return s.NetworkMode }
	other, ok := c.shares("network_mode", c.s.NetworkMode, mode)
	if !ok {
		return
	}
	if c.s.Hostname != "" || c.s.DomainName != "" {
		c.bad("hostname", "the container has that of service %s, whose network it shares: remove the key", other.Name)
	}
	if len(c.c.Ports) > 0 {
		c.bad("ports", "the network is that of service %s: publish the ports there", other.Name)
	}
	c.apart()
	c.c.Network = app.NetworkNone
	if other.NetworkMode == string(app.NetworkHost) {
		c.c.Network = app.NetworkHost
		return
	}
	c.s.Hostname, c.s.DomainName = cmp.Or(other.Hostname, other.Name), other.DomainName
	c.join(joinNetwork, other.Name)
	if other.NetworkMode != string(app.NetworkNone) {
		c.c.NamesOf = other.Name
	}
}

func (c *converter) join(namespace, service string) {
	if c.c.Joins == nil {
		c.c.Joins = map[string]string{}
	}
	c.c.Joins[namespace] = service
}

// processes are the namespaces of processes and of their memory: its own, the device's, or those of another container.
func (c *converter) processes() {
	c.c.PID = c.namespace("pid", joinPID, c.s.Pid, func(s *types.ServiceConfig) string { return s.Pid }, "host")
	c.c.IPC = c.namespace("ipc", joinIPC, c.s.Ipc, func(s *types.ServiceConfig) string { return s.Ipc }, "host",
		"none", "shareable", "private")
	c.c.UTS = c.mode("uts", c.s.Uts, "host")
}

func (c *converter) namespace(key, namespace, value string, get func(*types.ServiceConfig) string,
	known ...string) string {
	if !strings.HasPrefix(value, types.ServicePrefix) {
		return c.mode(key, value, append(known, "service:NAME")...)
	}
	other, ok := c.shares(key, value, get)
	switch end := get(&other); {
	case !ok:
	case end == "host":
		return end
	case namespace == joinIPC && end != "shareable":
		c.bad(key, "service %s keeps its own: write ipc: shareable there", other.Name)
	default:
		c.join(namespace, other.Name)
	}
	return ""
}

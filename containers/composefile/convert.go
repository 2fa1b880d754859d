package composefile

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"

	"resinos/containers/app"
	"resinos/containers/composefile/values"
)

const defaultStopGrace = 10 * time.Second

// convert makes the app of the project. What cannot be is a fault.
func (l *load) convert() app.App {
	known := l.networks()
	a := app.App{Name: l.name}
	if len(l.project.Services) == 0 && len(l.faults) == 0 {
		l.fault("services", "no service is active: write one, or name its profile in .env as COMPOSE_PROFILES")
	}
	count := 0
	for _, s := range l.project.Services {
		count += max(s.GetScale(), 0)
	}
	if count > maxContainers {
		l.fault("services", "%d containers, at most %d run in one app: split it into several apps", count,
			maxContainers)
		return a
	}
	for _, name := range slices.Sorted(maps.Keys(l.project.Services)) {
		s := l.project.Services[name]
		c := &converter{load: l, path: "services." + name, s: &s, c: app.Container{App: l.name, Service: name}}
		c.convert(known)
		a.Containers = append(a.Containers, c.replicas()...)
	}
	return a
}

// converter makes a container of a service.
type converter struct {
	*load
	path string
	s    *types.ServiceConfig
	c    app.Container
}

func (c *converter) bad(key, format string, args ...any) { c.fault(c.path+"."+key, format, args...) }

func (c *converter) convert(known map[string]app.Link) {
	if !app.ValidName(c.s.Name) || !app.ValidName(c.c.App) || len(c.c.ID())+4 > maxID {
		c.fault(c.path, "service name is not of a-z, 0-9 and single - or _ between them, or longer than %d with the"+
			" app's name: rename it", maxID-4)
		return
	}
	c.image()
	c.process()
	c.network(known)
	c.mounts()
	c.files()
	c.devices()
	c.rights()
	c.resources()
	c.life()
}

// maxID is containerd's bound on the name of a container.
const maxID = 76

// replicas are the containers of a service that has a scale.
func (c *converter) replicas() []app.Container {
	n := c.s.GetScale()
	if n < 1 {
		return nil
	}
	out := []app.Container{c.c}
	if n > 1 && c.s.ContainerName != "" {
		c.bad("container_name", "%d containers cannot have one name: remove it or scale", n)
	}
	for i := 2; i <= n; i++ {
		one := c.c
		one.Number = i
		out = append(out, one)
	}
	return out
}

func (c *converter) image() {
	if c.s.Image != "" {
		ref, err := reference.ParseDockerRef(c.s.Image)
		if err != nil {
			c.bad("image", "%q is no name of an image: %v", c.s.Image, err)
		} else {
			c.c.Image = ref.String()
		}
	}
	c.platform()
	c.pullPolicy()
}

// pullPolicy is when the image is fetched though it is there: always, or every_ and how long that takes at least.
func (c *converter) pullPolicy() {
	policy, every, err := c.s.GetPullPolicy()
	switch {
	case policy == types.PullPolicyBuild:
		c.bad("pull_policy", "a device builds no images: build and push it on another machine, as docker compose build"+
			" --push, and write always, missing or never")
	case err != nil, policy == types.PullPolicyRefresh && every <= 0:
		c.bad("pull_policy", "%q is none: write always, missing, never, daily, weekly or every_DURATION",
			c.s.PullPolicy)
	case policy == types.PullPolicyRefresh:
		c.c.PullPolicy = app.PullEvery + every.String()
	case policy == types.PullPolicyAlways, policy == types.PullPolicyNever:
		c.c.PullPolicy = policy
	}
}

// kin are the architectures whose programs a device of the first one runs too.
var kin = map[string][]string{"amd64": {"amd64", "x86_64", "386", "i386"}, "arm64": {"arm64", "aarch64", "arm"}}

// platform refuses an image for another architecture. Of an image that has several, the device always takes its own.
func (c *converter) platform() {
	if c.c.Platform = c.s.Platform; c.c.Platform == "" {
		return
	}
	parts := strings.Split(strings.ToLower(c.c.Platform), "/")
	arch := parts[len(parts)-1]
	if len(parts) > 1 {
		arch = parts[1]
	}
	ours := kin[runtime.GOARCH]
	switch {
	case len(parts) > 1 && parts[0] != "linux" || !slices.Contains(ours, arch):
		c.bad("platform", "%s is not the device's, linux/%s: remove the key, and build the image with --platform"+
			" linux/%s", c.s.Platform, runtime.GOARCH, runtime.GOARCH)
	case !slices.Contains(ours[:2], arch):
		c.warn(c.path+".platform", "of an image for several architectures the device takes linux/%s",
			runtime.GOARCH)
	}
}

// process is what runs: program, variables, user.
func (c *converter) process() {
	c.c.Command, c.c.Entrypoint = c.words("command", c.s.Command), c.words("entrypoint", c.s.Entrypoint)
	for name, value := range c.s.Environment {
		if name == "" || strings.Contains(name, "=") {
			c.bad("environment", "variable name %q is not allowed", name)
		}
		if value != nil { // KEY alone means the caller's, and a device has none
			c.c.Environment = append(c.c.Environment, name+"="+*value)
		}
	}
	slices.Sort(c.c.Environment)
	c.words("environment", c.c.Environment)
	c.c.WorkingDir, c.c.User, c.c.Groups = c.s.WorkingDir, c.s.User, c.s.GroupAdd
	if c.c.WorkingDir != "" && !strings.HasPrefix(c.c.WorkingDir, "/") {
		c.bad("working_dir", "%q is no absolute path", c.c.WorkingDir)
	}
	c.c.TTY, c.c.StdinOpen = c.s.Tty, c.s.StdinOpen
	c.c.Labels = pairs(c.s.Labels)
	for _, prefix := range []string{"io.balena.features.", "io.resin.features."} {
		for _, name := range []string{"balena-socket", "balena-api", "supervisor-api"} {
			if on, err := strconv.ParseBool(c.c.Label(prefix + name)); err == nil && on {
				c.warn(c.path+".labels", "%s%s has no effect: a device has no %s for apps", prefix, name, name)
			}
		}
	}
}

// words refuses what no argument can hold.
func (c *converter) words(key string, list []string) []string {
	for _, s := range list {
		if strings.ContainsRune(s, 0) {
			c.bad(key, "%q contains a zero byte", s)
		}
	}
	return list
}

func pairs(m map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return out
}

// rights are what the container may do beyond others, or less.
func (c *converter) rights() {
	c.c.CapAdd, c.c.CapDrop = c.capabilities("cap_add", c.s.CapAdd), c.capabilities("cap_drop", c.s.CapDrop)
	c.c.Privileged, c.c.ReadOnly = c.s.Privileged, c.s.ReadOnly
	for _, option := range c.s.SecurityOpt {
		switch name := strings.NewReplacer(":", "=").Replace(option); name {
		case "no-new-privileges", "no-new-privileges=true", "no-new-privileges=false", "seccomp=unconfined":
			c.c.Security = append(c.c.Security, name)
		case "systempaths=unconfined":
			c.c.Security = append(c.c.Security, name)
		default:
			if strings.HasPrefix(name, "apparmor=") || strings.HasPrefix(name, "label=") {
				c.warn(c.path+".security_opt", "%s: the device has neither AppArmor nor SELinux", option)
			} else {
				c.bad("security_opt", "%s is not carried out: write no-new-privileges, seccomp=unconfined or"+
					" systempaths=unconfined", option)
			}
		}
	}
	c.c.Sysctls = pairs(c.s.Sysctls)
	for _, name := range slices.Sorted(maps.Keys(c.s.Ulimits)) {
		u := c.s.Ulimits[name]
		limit := app.Ulimit{Name: name, Soft: int64(u.Soft), Hard: int64(u.Hard)}
		if u.Single != 0 {
			limit.Soft, limit.Hard = int64(u.Single), int64(u.Single)
		}
		if limit.Soft < -1 || limit.Hard < -1 || limit.Hard >= 0 && (limit.Soft > limit.Hard || limit.Soft < 0) {
			c.bad("ulimits."+name, "%d is above the hard limit %d", limit.Soft, limit.Hard)
		}
		c.c.Ulimits = append(c.c.Ulimits, limit)
	}
	c.c.Init = c.s.Init != nil && *c.s.Init
	c.processes()
	c.users()
	c.c.Hostname, c.c.Domainname = c.s.Hostname, c.s.DomainName
	for key, name := range map[string]string{"hostname": c.s.Hostname, "domainname": c.s.DomainName} {
		if err := values.CheckName(name); name != "" && err != nil {
			c.bad(key, "%v", err)
		}
	}
}

func (c *converter) mode(key, value string, known ...string) string {
	if value != "" && !slices.Contains(known, value) {
		c.bad(key, "%q is not carried out: write %s, or remove the key", value, strings.Join(known, " or "))
	}
	return value
}

func (c *converter) capabilities(key string, list []string) []string {
	var out []string
	for _, name := range list {
		name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		if name != "ALL" && !slices.Contains(values.Capabilities[:], name) {
			c.bad(key, "%s is no capability: see capabilities(7)", name)
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// life is when the container starts, ends and starts again.
func (c *converter) life() {
	restart, err := policyOf(c.s)
	if err != nil {
		c.bad("restart", "%v", err)
	}
	c.c.Restart = restart
	c.c.StopSignal, c.c.StopGrace = c.s.StopSignal, defaultStopGrace
	if d := c.s.StopGracePeriod; d != nil {
		c.c.StopGrace = time.Duration(*d)
		if *d < 0 || time.Duration(*d) > time.Hour {
			c.bad("stop_grace_period", "%s is not between 0 and an hour", time.Duration(*d))
		}
	}
	c.c.Healthcheck = c.healthcheck(c.s.HealthCheck)
	for _, name := range slices.Sorted(maps.Keys(c.s.DependsOn)) {
		d := c.s.DependsOn[name]
		c.c.DependsOn = append(c.c.DependsOn, app.Dependency{
			Service: name, Condition: app.Condition(d.Condition), Restart: d.Restart, Required: d.Required})
	}
}

// policyOf is restart, or what deploy says in its place.
func policyOf(s *types.ServiceConfig) (app.Restart, error) {
	if s.Restart == "" && s.Deploy != nil && s.Deploy.RestartPolicy != nil {
		p := s.Deploy.RestartPolicy
		switch p.Condition {
		case "none":
			return app.Restart{Policy: app.Never}, nil
		case "on-failure":
			r := app.Restart{Policy: app.OnFailure}
			if p.MaxAttempts != nil {
				r.Limit = int(min(*p.MaxAttempts, 1<<30))
			}
			return r, nil
		default:
			return app.Restart{Policy: app.Always}, nil
		}
	}
	policy, limit, limited := strings.Cut(s.Restart, ":")
	r := app.Restart{Policy: app.Policy(policy)}
	switch r.Policy {
	case "":
		r.Policy = app.Never
	case app.Never, app.Always, app.UnlessStopped, app.OnFailure:
	default:
		return r, fmt.Errorf("%q is not no, always, unless-stopped or on-failure[:N]", s.Restart)
	}
	if limited {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 1 || r.Policy != app.OnFailure {
			return r, fmt.Errorf("%q: only on-failure takes a count, of 1 or more", s.Restart)
		}
		r.Limit = n
	}
	return r, nil
}

func (c *converter) healthcheck(h *types.HealthCheckConfig) *app.Healthcheck {
	if h == nil {
		return nil
	}
	if h.Disable {
		return &app.Healthcheck{Test: []string{"NONE"}}
	}
	out := &app.Healthcheck{Test: c.words("healthcheck.test", h.Test)}
	if len(h.Test) > 0 && (!slices.Contains([]string{"NONE", "CMD", "CMD-SHELL"}, h.Test[0]) ||
		h.Test[0] != "NONE" && len(h.Test) < 2 || h.Test[0] == "CMD-SHELL" && len(h.Test) != 2) {
		c.bad("healthcheck.test", "%q: write a string, or a list that begins with CMD, CMD-SHELL or NONE", h.Test)
	}
	for _, d := range []struct {
		key string
		in  *types.Duration
		out *time.Duration
	}{
		{"interval", h.Interval, &out.Interval}, {"timeout", h.Timeout, &out.Timeout},
		{"start_period", h.StartPeriod, &out.StartPeriod}, {"start_interval", h.StartInterval, &out.StartInterval},
	} {
		if d.in == nil {
			continue
		}
		if *d.out = time.Duration(*d.in); *d.out != 0 && *d.out < time.Millisecond {
			c.bad("healthcheck."+d.key, "%v is less than a millisecond", *d.out)
		}
	}
	if h.Retries != nil {
		out.Retries = int(min(*h.Retries, 1<<30))
	}
	return out
}

package app

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"
	"go.yaml.in/yaml/v4"
)

// shape is what the schema of compose allows as a value.
type shape int

const (
	text    shape = iota // a string
	words                // a string or a list of strings
	mapping              // a mapping of scalars, or a list of KEY=VALUE
	special              // more than that: its set looks
)

// key is one key of a service that we carry out.
type key struct {
	name  string
	shape shape
	set   func(c *Container, value any) error
}

// find returns the entry of name, or nil for what we leave out. A function and not a variable: the
// table costs nothing until the first app is parsed.
func find(name string) *key {
	keys := []key{
		{"image", text, setImage},
		{"command", words, func(c *Container, v any) (err error) { c.Command, err = command(v); return }},
		{"entrypoint", words, func(c *Container, v any) (err error) { c.Entrypoint, err = command(v); return }},
		{"environment", mapping, setEnvironment},
		{"working_dir", text, func(c *Container, v any) error { c.WorkingDir = v.(string); return nil }},
		{"user", text, func(c *Container, v any) error { c.User = v.(string); return nil }},
		{"restart", text, setRestart},
		{"network_mode", text, setNetwork},
		{"networks", special, setNetworks},
		{"ports", special, setPorts},
		{"expose", special, func(*Container, any) error { return nil }}, // in its networks all ports are open
		{"container_name", text, setContainerName},
		{"extra_hosts", special, setExtraHosts},
		{"dns", special, setDNS},
		{"dns_search", special, setDNSSearch},
		{"stop_signal", text, func(c *Container, v any) error { c.StopSignal = v.(string); return nil }},
		{"stop_grace_period", text, setStopGrace},
	}
	i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
	if i < 0 {
		return nil
	}
	return &keys[i]
}

// leftOut are the keys of compose that a container may lack: without them it is no looser, takes no more
// and keeps the same data. An app with any other key that we do not carry out is refused, so that no
// container runs with less protection or fewer limits than its owner asked for.
const leftOut = " annotations attach build depends_on develop domainname healthcheck hostname label_file labels" +
	" links logging platform pull_policy scale stdin_open tty "

// refusal says why an app with this key does not run, or is empty.
func refusal(key string) string {
	switch key {
	case "extends":
		return "services are not extended, write the keys here"
	case "env_file":
		return "files of environment are not read, write the variables here"
	}
	if strings.Contains(leftOut, " "+key+" ") {
		return ""
	}
	return "not supported, and left out it would make another container, so the app does not run: remove the key"
}

// key carries out one key of a service.
func (p *parser) key(c *Container, name, node *yaml.Node, path string) {
	k := find(name.Value)
	if k == nil {
		p.leaveOut(name, node, path)
		return
	}
	var value any
	if err := node.Decode(&value); err != nil {
		p.fault(node, path, err.Error())
		return
	}
	if value == nil {
		return // `command:` with nothing after it is as good as absent
	}
	if err := k.shape.check(value); err != nil {
		p.fault(node, path, err.Error())
		return
	}
	value, err := p.interpolate(name, value, path)
	if err == nil {
		err = k.set(c, value)
	}
	if err != nil {
		p.fault(node, path, err.Error())
	}
}

// interpolate replaces $VARIABLES. There are none on a device: each is empty or takes the default
// that the file gives, and the person is told.
func (p *parser) interpolate(name *yaml.Node, value any, path string) (any, error) {
	lookup := func(variable string) (string, bool) {
		p.warn(name, path, fmt.Sprintf("variable %s is not set: write $$%s for a dollar sign", variable, variable))
		return "", false
	}
	out, err := interpolation.Interpolate(map[string]any{name.Value: value}, interpolation.Options{
		LookupValue: lookup,
		Substitute: func(s string, m template.Mapping) (string, error) {
			return template.SubstituteWithOptions(s, m, template.WithoutLogging)
		},
	})
	return out[name.Value], err
}

// leaveOut warns of a key that we do not carry out, or refuses the app. A value that asks for nothing
// (false, an empty list) is as good as absent.
func (p *parser) leaveOut(name, node *yaml.Node, path string) {
	var value any
	if err := node.Decode(&value); err != nil {
		p.fault(node, path, err.Error())
		return
	}
	switch v := value.(type) {
	case bool:
		if !v {
			return
		}
	case []any:
		if len(v) == 0 {
			return
		}
	}
	if why := refusal(name.Value); why != "" {
		p.fault(name, path, why)
		return
	}
	p.warn(name, path, "not supported, left out")
}

func (s shape) check(value any) error {
	if s == special {
		return nil
	}
	switch v := value.(type) {
	case string:
		if s != mapping {
			return nil
		}
	case []any:
		if s != text {
			return checkStrings(v)
		}
	case map[string]any:
		if s == mapping {
			return checkScalars(v)
		}
	}
	return errors.New([]string{
		text:    "must be a string (a number needs quotes)",
		words:   "must be a string or a list of strings",
		mapping: "must be a mapping or a list of KEY=VALUE",
	}[s])
}

func checkStrings(list []any) error {
	for i, v := range list {
		if _, ok := v.(string); !ok {
			return fmt.Errorf("item %d must be a string (a number needs quotes)", i)
		}
	}
	return nil
}

func checkScalars(m map[string]any) error {
	for k, v := range m {
		switch v.(type) {
		case nil, string, bool, int, int64, uint64, float64:
		default:
			return fmt.Errorf("%s must be a string, a number or a boolean", k)
		}
	}
	return nil
}

func setImage(c *Container, v any) error {
	ref, err := reference.ParseDockerRef(v.(string))
	if err != nil {
		return err
	}
	c.Image = ref.String()
	return nil
}

func command(v any) ([]string, error) {
	var out types.ShellCommand
	if err := out.DecodeMapstructure(v); err != nil {
		return nil, err
	}
	if out == nil { // an empty string clears the image's, as an empty list does
		out = types.ShellCommand{}
	}
	return out, checkNUL(out...)
}

func setEnvironment(c *Container, v any) error {
	var vars types.MappingWithEquals
	if err := vars.DecodeMapstructure(v); err != nil {
		return err
	}
	c.Environment = nil
	for name, value := range vars {
		if name == "" || strings.Contains(name, "=") {
			return fmt.Errorf("variable name %q is not allowed", name)
		}
		if value == nil {
			continue // `KEY` alone means the caller's, and a device has none
		}
		c.Environment = append(c.Environment, name+"="+*value)
	}
	slices.Sort(c.Environment)
	return checkNUL(c.Environment...)
}

func checkNUL(list ...string) error {
	for _, s := range list {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("%q contains a zero byte", s)
		}
	}
	return nil
}

func setRestart(c *Container, v any) error {
	policy, limit, limited := strings.Cut(v.(string), ":")
	r := Restart{Policy: Policy(policy)}
	switch r.Policy {
	case Never, Always, UnlessStopped, OnFailure:
	default:
		return fmt.Errorf("%q is not no, always, unless-stopped or on-failure[:N]", v)
	}
	if limited {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 1 || r.Policy != OnFailure {
			return fmt.Errorf("%q: only on-failure takes a count, of 1 or more", v)
		}
		r.Limit = n
	}
	c.Restart = r
	return nil
}

func setNetwork(c *Container, v any) error {
	switch n := Network(v.(string)); n {
	case NetworkHost, NetworkNone, NetworkBridge:
		c.Network = n
		return nil
	}
	return fmt.Errorf("%q does not exist yet, only bridge, host and none do", v)
}

func setStopGrace(c *Container, v any) error {
	var d types.Duration
	if err := d.DecodeMapstructure(v); err != nil {
		return err
	}
	if d < 0 || time.Duration(d) > time.Hour {
		return fmt.Errorf("%s is not between 0 and an hour", time.Duration(d))
	}
	c.StopGrace = time.Duration(d)
	return nil
}

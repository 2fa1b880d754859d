package engineclient

import (
	"context"
	"encoding/json"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/typeurl/v2"

	"resinos/containers/health"
	"resinos/containers/inside"
)

// checkName is the name under which the engine keeps the health check of a container. A label may be too short for it.
const checkName = "resinos/health"

// withCheck stores the health check of the container in the engine, because the app and the image may be removed while
// the container runs.
func withCheck(check *health.Check) containerd.NewContainerOpts {
	return func(_ context.Context, _ *containerd.Client, c *record) error {
		if check == nil {
			return nil
		}
		text, err := json.Marshal(check)
		if err != nil {
			return err
		}
		if c.Extensions == nil {
			c.Extensions = map[string]typeurl.Any{}
		}
		c.Extensions[checkName] = extension(text)
		return nil
	}
}

// extension is the value that the engine stores with a container.
type extension []byte

// GetTypeUrl returns the type of the value.
func (extension) GetTypeUrl() string { return checkName }

// GetValue returns the value.
func (e extension) GetValue() []byte { return e }

// checkOf returns the check that withCheck has stored.
func checkOf(r record) *health.Check {
	kept, ok := r.Extensions[checkName]
	if !ok {
		return nil
	}
	var check health.Check
	if json.Unmarshal(kept.GetValue(), &check) != nil || len(check.Args) == 0 {
		return nil // withCheck wrote it, so it parses
	}
	return &check
}

// Probe returns how the check of a container is run in it (health.Runner.Describe).
func (c *Containerd) Probe(ctx context.Context, id string,
	args []string) (command []string, process []byte, err error) {
	spec, _, err := c.Inside(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	return c.Inner().Command(id, inside.Process(*spec.Process, inside.Wish{Args: args}))
}

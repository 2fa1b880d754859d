package engineclient

import (
	"context"
	"encoding/json"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/typeurl/v2"

	"resinos/containers/health"
	"resinos/containers/inside"
)

// checkName is under what the engine keeps the check of a container, which a label may be too short for.
const checkName = "resinos/health"

// withCheck has the engine keep what the check of the container is: the app and the container image may be gone while
// it runs.
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

// extension is what the engine keeps for us beside a container.
type extension []byte

// GetTypeUrl names what it is.
func (extension) GetTypeUrl() string { return checkName }

// GetValue is the text.
func (e extension) GetValue() []byte { return e }

// checkOf is what withCheck had kept.
func checkOf(r record) *health.Check {
	kept, ok := r.Extensions[checkName]
	if !ok {
		return nil
	}
	var check health.Check
	if json.Unmarshal(kept.GetValue(), &check) != nil || len(check.Args) == 0 {
		return nil // it is we who wrote it
	}
	return &check
}

// Probe says how a program is run in a container for its check (health.Runner.Describe).
func (c *Containerd) Probe(ctx context.Context, id string, args []string) (command []string, process []byte,
	err error) {
	spec, _, err := c.Inside(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	return c.Inner().Command(id, inside.Process(*spec.Process, inside.Wish{Args: args}))
}

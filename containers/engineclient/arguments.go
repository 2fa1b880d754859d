package engineclient

import (
	"context"

	"resinos/containers/app"
)

// Arguments are the command line of a container: of its app and its container image.
func (c *Containerd) Arguments(ctx context.Context, want app.Container) ([]string, error) {
	client, ctx := c.link(ctx)
	image, err := client.GetImage(ctx, want.Image)
	if err != nil {
		return nil, err
	}
	config, err := imageConfig(ctx, image)
	if err != nil {
		return nil, err
	}
	return arguments(want, config.ImageConfig)
}

package engineclient

import (
	"context"

	"resinos/containers/app"
)

// Arguments returns the command line of a container, from its app and its image.
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

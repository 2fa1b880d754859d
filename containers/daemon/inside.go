package daemon

import (
	"context"
	"fmt"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	containerd "github.com/containerd/containerd/v2/client"
	ptypes "github.com/containerd/containerd/v2/pkg/protobuf/types"
	"github.com/containerd/containerd/v2/plugins"
	apis "github.com/containerd/containerd/v2/plugins/services"
	"github.com/containerd/plugin"
	"google.golang.org/grpc"
)

// inside returns what a client in this process needs to call the server without its socket. Changes of tasks are
// completed as those that come through the socket are.
func inside(p *plugged, s *sweeper) (containerd.Opt, error) {
	var list []containerd.ServicesOpt
	for _, o := range offers(s) {
		instance, err := p.instance(o.kind, o.id)
		if err != nil {
			return nil, fmt.Errorf("find plugin %s %s: %w", o.kind, o.id, err)
		}
		set := o.option(instance)
		if set == nil {
			return nil, fmt.Errorf("plugin %s %s is a %T", o.kind, o.id, instance)
		}
		list = append(list, set)
	}
	return containerd.WithServices(list...), nil
}

// offer is a plugin that a client uses.
type offer struct {
	kind   plugin.Type
	id     string                           // empty: the only one of its kind
	option func(any) containerd.ServicesOpt // nil for an instance of a wrong type
}

func offers(s *sweeper) []offer {
	of := func(id string, option func(any) containerd.ServicesOpt) offer {
		return offer{plugins.ServicePlugin, id, option}
	}
	return []offer{
		{plugins.EventPlugin, "", option(containerd.WithEventService)},
		{plugins.LeasePlugin, "", option(containerd.WithLeasesService)},
		of(apis.ContentService, option(containerd.WithContentStore)),
		of(apis.ImagesService, option(containerd.WithImageClient)),
		of(apis.SnapshotsService, option(containerd.WithSnapshotters)),
		of(apis.DiffService, option(containerd.WithDiffClient)),
		of(apis.NamespacesService, option(containerd.WithNamespaceClient)),
		of(apis.IntrospectionService, option(containerd.WithIntrospectionService)),
		of(apis.ContainersService, option(func(i containersapi.ContainersClient) containerd.ServicesOpt {
			return containerd.WithContainerClient(sweptContainers{i, s})
		})),
		of(apis.TasksService, option(func(i tasks.TasksClient) containerd.ServicesOpt {
			return containerd.WithTaskClient(sweptTasks{i, s})
		})),
	}
}

// option returns a function that calls f with an instance of its type, and returns nil for another type.
func option[T any](f func(T) containerd.ServicesOpt) func(any) containerd.ServicesOpt {
	return func(i any) containerd.ServicesOpt {
		if t, ok := i.(T); ok {
			return f(t)
		}
		return nil
	}
}

func (p *plugged) instance(kind plugin.Type, id string) (any, error) {
	for _, s := range p.started {
		if s.Registration.Type == kind && (id == "" || s.Registration.ID == id) {
			return s.Instance()
		}
	}
	return nil, plugin.ErrPluginNotFound
}

// sweptContainers pokes the sweeper when a container is removed.
type sweptContainers struct {
	containersapi.ContainersClient
	s *sweeper
}

// Delete removes a container.
func (c sweptContainers) Delete(ctx context.Context, r *containersapi.DeleteContainerRequest,
	opts ...grpc.CallOption) (*ptypes.Empty, error) {
	defer c.s.poke()
	return c.ContainersClient.Delete(ctx, r, opts...)
}

// sweptTasks completes the change of a task.
type sweptTasks struct {
	tasks.TasksClient
	s *sweeper
}

// Create creates the task of a container.
func (t sweptTasks) Create(ctx context.Context, r *tasks.CreateTaskRequest, opts ...grpc.CallOption) (
	*tasks.CreateTaskResponse, error) {
	return complete(ctx, t.s, func(ctx context.Context) (*tasks.CreateTaskResponse, error) {
		return t.TasksClient.Create(ctx, r, opts...)
	})
}

// Start starts the program of a task.
func (t sweptTasks) Start(ctx context.Context, r *tasks.StartRequest, opts ...grpc.CallOption) (
	*tasks.StartResponse, error) {
	return complete(ctx, t.s, func(ctx context.Context) (*tasks.StartResponse, error) {
		return t.TasksClient.Start(ctx, r, opts...)
	})
}

// Kill sends a signal to a task.
func (t sweptTasks) Kill(ctx context.Context, r *tasks.KillRequest, opts ...grpc.CallOption) (*ptypes.Empty, error) {
	return complete(ctx, t.s, func(ctx context.Context) (*ptypes.Empty, error) {
		return t.TasksClient.Kill(ctx, r, opts...)
	})
}

// Delete removes a task that has ended.
func (t sweptTasks) Delete(ctx context.Context, r *tasks.DeleteTaskRequest, opts ...grpc.CallOption) (
	*tasks.DeleteResponse, error) {
	return complete(ctx, t.s, func(ctx context.Context) (*tasks.DeleteResponse, error) {
		return t.TasksClient.Delete(ctx, r, opts...)
	})
}

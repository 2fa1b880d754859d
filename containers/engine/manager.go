package main

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/containerd/platforms"
	"golang.org/x/sync/errgroup"

	"resinos/containers/appcontrol"
	"resinos/containers/appfiles"
	"resinos/containers/appserver"
	"resinos/containers/appstatus"
	"resinos/containers/engineclient"
	"resinos/containers/health"
	"resinos/containers/load"
	"resinos/containers/mirror"
	"resinos/containers/network"
	"resinos/containers/pull"
	"resinos/containers/refresh"
	"resinos/containers/store"
	"resinos/containers/volume"
	"resinos/containers/workload"
	"resinos/net/nameserver"
	"resinos/services/boottime"
	"resinos/services/log/pipe"
)

// What containers on the host network see as their /etc/resolv.conf is a copy of the device's.
const (
	deviceResolv    = "/run/resinos/resolv.conf"
	containerResolv = "/run/resinos/containers/resolv.conf"
)

// Where the pipes lie that containers with stdin_open read, and the memory that those with ipc: shareable offer.
const (
	containerInputs = "/run/resinos/containers/inputs"
	containerShm    = "/run/resinos/containers/shm"
)

// manager is the part of the process that makes the containers match the apps.
type manager struct {
	c          workload.Config
	engine     *engineclient.Containerd
	networks   *network.Networks
	loader     *load.Loader
	server     *appserver.Server
	events     *appserver.Events
	runner     *health.Runner
	keeper     *health.Keeper
	resolv     string        // of the device
	registries string        // directories of the settings for registries
	root       string        // directory where the engine keeps images
	watches    chan struct{} // closed once changes of the apps and of resolv are noticed
}

// newManager returns a manager with the flags for what differs between the device and a test.
func newManager(flags *flag.FlagSet) *manager {
	m := &manager{networks: &network.Networks{Names: &nameserver.Server{}}, loader: &load.Loader{},
		events: new(appserver.Events), watches: make(chan struct{})}
	m.engine = &engineclient.Containerd{Networks: m.networks}
	m.c = workload.Config{Engine: m.engine, Networks: m.networks, Loader: m.loader, Orders: workload.NewOrders(),
		Event: m.events.Add}
	m.server = &appserver.Server{Orders: m.c.Orders, Engine: m.engine, Events: m.events}
	m.runner = &health.Runner{Describe: m.engine.Probe}
	m.keeper = &health.Keeper{Begin: m.runner.Begin, Clear: m.runner.Clear, Started: health.Started, Now: boottime.Now,
		Event: func(id string, s health.Status) { m.events.Add(id, "health_status", string(s)) }}
	m.c.Health, m.server.Health = m.keeper, m.keeper.State
	c, engine := &m.c, m.engine
	flags.StringVar(&c.Apps, "apps", workload.Apps, "directory with one subdirectory for each app")
	flags.StringVar(&m.loader.Program.Path, "loader", "/usr/bin/compose", "program that loads compose files")
	flags.StringVar(&m.loader.Kept, "loaded", workload.Loaded, "directory of what the apps are, for the next boot")
	flags.StringVar(&c.Records, "records", workload.Records, "directory of the records that last until power off")
	flags.StringVar(&m.keeper.Dir, "health", health.Dir, "directory of what the checks of containers said")
	flags.StringVar(&c.Status, "status", appstatus.Path, "file of the status of the apps")
	flags.StringVar(&c.Down, "down", workload.Down, "file of the apps that a person took down")
	flags.StringVar(&m.server.Socket, "control", appcontrol.SocketPath, "socket to answer on")
	flags.StringVar(&m.server.Hold, "hold", "/usr/sbin/init", "first process of the containers of osctl run")
	flags.StringVar(&c.Shutdown, "shutdown", workload.Shutdown, "file that exists while the device goes down")
	flags.StringVar(&engine.Snapshotter, "snapshotter", "overlayfs", "overlayfs or native")
	flags.StringVar(&engine.LogDir, "log-pipes", pipe.Dir, "directory of the log pipes")
	flags.StringVar(&engine.Runtime, "runtime", "/usr/bin/crun", "path of the OCI runtime")
	flags.StringVar(&engine.Init, "init", "/usr/bin/tini", "first process of containers with init: true")
	flags.StringVar(&engine.Shm, "shm", containerShm, "directory of the memory that containers share")
	flags.StringVar(&engine.Inputs, "inputs", containerInputs, "directory of the inputs of containers")
	flags.StringVar(&engine.Hosts, "hosts", "/etc/hosts", "hosts file of containers on the host network")
	flags.StringVar(&engine.Resolv, "container-resolv", containerResolv,
		"resolv.conf of containers on the host network")
	flags.StringVar(&m.networks.Pool, "networks", network.PoolPath, "file of who has which addresses")
	flags.StringVar(&m.networks.Files, "network-files", network.FilesPath,
		"directory of the hosts and resolv.conf of containers in networks of apps")
	flags.StringVar(&m.registries, "registries", registrySettings, "directories of the settings for registries")
	flags.StringVar(&engine.Volumes.Dir, "volumes", volume.Dir, "directory of the volumes of apps")
	flags.StringVar(&m.resolv, "resolv", deviceResolv, "what that is a copy of")
	return m
}

// run runs the manager until ctx is done.
func (m *manager) run(ctx context.Context, env Env) error {
	m.networks.Log, m.networks.Names.Log, m.engine.Log, m.c.Log = env.Log, env.Log, env.Log, env.Log
	m.server.Log, m.keeper.Log = env.Log, env.Log
	defer m.networks.Names.Close()
	defer m.keeper.Close()
	m.engine.Volumes.Apps = m.c.Apps
	m.runner.Runtime = m.engine.Runtime
	if err := m.runner.Open(m.engine.CgroupRoot); err != nil {
		env.Log.Warn("checks run in the cgroups of their containers", "error", err)
	}
	m.networks.Names.Upstream = nameserver.FromFile(m.resolv)
	if _, err := os.Stat(m.engine.Hosts); err != nil {
		m.engine.Hosts = "" // a container then keeps its image's
	}
	images, stop := bringImages(ctx, m.engine, m.root, fetcherOf(m.registries, env.Stderr), &m.c)
	defer stop()
	m.server.Images = images
	reload := make(chan struct{}, 1)
	defer onHangup(reload)()
	m.c.Reload = reload
	m.server.Status = m.c.Status
	return m.manage(ctx, env, reload)
}

// bringImages gives the engine what brings images and looks after them, until the returned function is called.
func bringImages(ctx context.Context, engine *engineclient.Containerd, root string,
	fetcher func(image string) *exec.Cmd, c *workload.Config) (images appserver.Images, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	c.Needs = new(store.Needs)
	marker := store.NewMarker(filepath.Join(root, "images-written"), engine.Log)
	engine.Store = &store.Store{Client: engine.Client, Snapshotter: engine.Snapshotter, Platform: platforms.Default(),
		Space: store.SpaceIn(root), Marker: marker, Log: engine.Log}
	pulls := pull.New(ctx, pull.Config{
		Client: engine.Client, Snapshotter: engine.Snapshotter, Platform: platforms.Default(), Fetcher: fetcher,
		Free:     func() (int64, error) { free, _, err := engine.Store.Space(); return free, err },
		MakeRoom: func(ctx context.Context, bytes int64) { engine.Store.MakeRoom(ctx, c.Needs.Now(), bytes) },
		Writing:  marker.Begin, ClockIsRight: clockIsRight,
		Images: pull.DefaultImages, Blobs: pull.DefaultBlobs, Log: engine.Log,
	})
	c.Pulls = pulls
	var kept sync.WaitGroup
	kept.Go(func() { engine.Store.Keep(ctx, c.Needs, marker) })
	again := &refresh.Refresher{Wanted: func() []store.Refresh { return c.Needs.Now().Refresh },
		Came: engine.Store.Came,
		Pull: pulls.Ask, Log: engine.Log}
	kept.Go(func() { again.Run(ctx) })
	kept.Go(func() {
		if err := engine.Volumes.Sweep(); err != nil {
			engine.Log.Warn("removed volumes still take space", "error", err)
		}
	})
	return appserver.Images{Store: engine.Store, Pulls: pulls, Needs: c.Needs, Refresh: again}, func() {
		cancel()
		pulls.Close()
		kept.Wait()
	}
}

// clockSynchronised exists while the clock is right (net/clock).
const clockSynchronised = "/run/resinos/time-synchronised"

func clockIsRight() bool {
	_, err := os.Stat(clockSynchronised)
	return err == nil
}

// manage runs the manager, the mirror of resolv.conf, which has to be there before a container is started,
// the watch on the apps, which has to be there before they are read, and the server for people.
func (m *manager) manage(ctx context.Context, env Env, reload chan<- struct{}) error {
	all, ctx := errgroup.WithContext(ctx)
	mirrored, watched := make(chan struct{}), make(chan struct{})
	all.Go(func() error { return mirror.File(ctx, m.resolv, m.engine.Resolv, mirrored, env.Log) })
	all.Go(func() error { appfiles.Watch(ctx, m.c.Apps, watched, reload, env.Log); return nil })
	all.Go(func() error {
		if err := m.server.Run(ctx); ctx.Err() == nil { // the apps run without it
			env.Log.Error("socket for osctl not opened", "socket", m.server.Socket, "error", err)
		}
		return nil
	})
	all.Go(func() error {
		<-mirrored
		<-watched
		close(m.watches)
		return workload.Run(ctx, m.c)
	})
	return all.Wait()
}

// onHangup turns SIGHUP into a request to read the apps again, until the returned function is called.
func onHangup(reload chan<- struct{}) (stop func()) {
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-signals:
			}
			select {
			case reload <- struct{}{}:
			default: // one is waiting already, it stands for both
			}
		}
	}()
	return func() { signal.Stop(signals); close(done) }
}

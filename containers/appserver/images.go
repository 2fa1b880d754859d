package appserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"resinos/containers/appcontrol"
	"resinos/containers/fetcher"
	"resinos/containers/pull"
	"resinos/containers/refresh"
	"resinos/containers/store"
	"resinos/containers/workload"
	"resinos/services/control"
)

// Images is what the server uses for container images.
type Images struct {
	Store *store.Store
	Pulls *pull.Pulls
	Needs *store.Needs
	// Refresh pulls the images that a pull_policy wants to be up to date.
	Refresh *refresh.Refresher
}

func (s *Server) imageHandlers(ctx context.Context) map[string]control.Handler {
	return map[string]control.Handler{
		appcontrol.OpImages: on(func(ctx context.Context, _ struct{}) (any, error) { return s.images(ctx) }),
		appcontrol.OpPull: on(func(_ context.Context, w appcontrol.Work) (any, error) {
			name := store.Normal(w.Image)
			if name == "" {
				return nil, noName(w.Image)
			}
			return s.jobs.begin(ctx, name, func(ctx context.Context) ([]string, error) { return s.pull(ctx, name) })
		}),
		appcontrol.OpLoad: on(func(_ context.Context, w appcontrol.Work) (any, error) {
			f, err := openArchive(w.File)
			if err != nil {
				return nil, err
			}
			j, err := s.jobs.begin(ctx, "", func(ctx context.Context) ([]string, error) { return s.load(ctx, f) })
			if err != nil {
				_ = f.Close() // only read
			}
			return j, err
		}),
		appcontrol.OpTake: on(func(_ context.Context, w appcontrol.Work) (any, error) {
			name := store.Normal(w.Image)
			if name == "" {
				return nil, noName(w.Image)
			}
			return s.jobs.begin(ctx, "", func(ctx context.Context) ([]string, error) { return s.take(ctx, name) })
		}),
		appcontrol.OpProgress:    on(s.progress),
		appcontrol.OpPrune:       on(s.prune),
		appcontrol.OpRemoveImage: on(s.removeImage),
	}
}

func noName(image string) error {
	return &control.Error{Text: fmt.Sprintf("%q is no name of a container image", image),
		Hint: "write it as docker does: HOST/PATH:TAG"}
}

// images lists the images, and which containers use each.
func (s *Server) images(ctx context.Context) ([]appcontrol.Image, error) {
	have, left, err := s.Images.Store.List(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.Orders.Find(ctx, workload.Order{})
	if err != nil {
		return nil, err
	}
	users := map[string][]string{}
	for _, one := range found {
		names := []string{one.Have.ImageName}
		if one.Want != nil && one.Want.Image != one.Have.ImageName {
			names = append(names, one.Want.Image)
		}
		for _, name := range names {
			users[name] = append(users[name], one.ID)
		}
	}
	need := s.Images.Needs.Now()
	list := []appcontrol.Image{}
	add := func(i appcontrol.Image) {
		i.UsedBy = append([]string{}, users[i.Name]...)
		i.Needed = need.Unsure || slices.Contains(need.Images, i.Name)
		list = append(list, i)
	}
	for _, i := range have {
		add(appcontrol.Image{Name: i.Name, Digest: i.Digest, Size: i.Size, Created: i.Created})
	}
	for _, l := range left {
		if l.Size == 0 { // a pull has just begun, or failed before the first byte
			continue
		}
		add(appcontrol.Image{Name: l.Image, Size: l.Size, Created: l.Created, Partial: true})
	}
	return list, nil
}

// hints are remedies for a failed pull, by cause.
var hints = map[pull.Cause]string{
	pull.Cause(fetcher.Offline):   "see the network: osctl status netd",
	pull.Cause(fetcher.Clock):     "see the clock: osctl time",
	pull.Cause(fetcher.Denied):    "see its name; a login is docker's config.json in /mnt/data/registries",
	pull.Cause(fetcher.Untrusted): "trust its certificate: ca in /mnt/data/registries/HOST/hosts.toml",
	pull.Cause(fetcher.Settings):  "correct the file, and pull again",
	pull.NoSpace:                  "try: osctl prune",
	pull.Unfit:                    "push an image that fits under another name",
	pull.Lied:                     "push the image again: the registry's copy is damaged",
	pull.Engine:                   "try: osctl status containerd",
}

func (s *Server) pull(ctx context.Context, name string) ([]string, error) {
	err := s.Images.Pulls.Ask(ctx, name)
	if err != nil {
		return nil, &control.Error{Text: fmt.Sprintf("pull %s: %v", name, err), Hint: hints[pull.CauseOf(err)]}
	}
	s.Log.Info("container image pulled", "image", name)
	return []string{name}, nil
}

// openArchive opens a file or a FIFO before the client gets its answer. The client may have written everything and
// closed the FIFO soon afterwards, and the content of a FIFO that no process has open is lost. The client has the FIFO
// open already, so its end is the end of the file.
func openArchive(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &control.Error{Text: err.Error(), Hint: "give a file, or - for standard input"}
	}
	return f, nil
}

// load loads an archive, and closes it.
func (s *Server) load(ctx context.Context, f *os.File) ([]string, error) {
	defer f.Close() // only read
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	names, err := s.Images.Store.Load(ctx, f)
	if err != nil {
		return nil, &control.Error{Text: "load container images: " + err.Error(),
			Hint: "an archive is what docker save, podman save or skopeo (oci-archive:) write"}
	}
	s.look(ctx)
	return names, nil
}

// take copies an image from the namespace of Docker's daemon to that of apps.
func (s *Server) take(ctx context.Context, name string) ([]string, error) {
	if err := s.Images.Store.Take(ctx, name); err != nil {
		hint := "build it again: docker build"
		if errdefs.IsNotFound(err) {
			hint = "see which there are: docker images"
		}
		return nil, &control.Error{Text: err.Error(), Hint: hint}
	}
	s.look(ctx)
	return []string{name}, nil
}

// look makes the manager plan again, because a container may have waited for this image. Any question to the manager
// does that.
func (s *Server) look(ctx context.Context) {
	if _, err := s.Orders.Find(ctx, workload.Order{}); err != nil {
		s.Log.Warn("manager does not know of loaded container images yet", "error", err)
	}
}

func (s *Server) progress(ctx context.Context, j appcontrol.Job) (any, error) {
	one, ended, err := s.jobs.wait(ctx, j.ID)
	if err != nil {
		return nil, err
	}
	p := appcontrol.Progress{Job: j, Ended: ended}
	if ended {
		p.Images = one.names
	}
	if status, ok := s.Images.Pulls.Status(one.image); ok && !ended {
		p.Done, p.Size = status.Sum()
		p.Waiting = status.Waiting
		if status.Err != nil {
			p.Fault = status.Err.Error()
		}
	}
	return p, nil
}

// need returns the images that must stay now, with those that people are pulling. It fails while that is not known.
func (s *Server) need() (store.Need, error) {
	need := s.Images.Needs.Now()
	if need.Unsure {
		return need, &control.Error{Text: "it is not known which container images are needed: an app cannot be read",
			Hint: "try: osctl apps"}
	}
	need.Images = append(slices.Clone(need.Images), s.Images.Pulls.Asked()...)
	return need, nil
}

func (s *Server) prune(ctx context.Context, r appcontrol.Remove) (any, error) {
	need, err := s.need()
	if err != nil {
		return nil, err
	}
	gone, err := s.Images.Store.Prune(ctx, need, store.Asked, r.Dry)
	list := []appcontrol.Removed{}
	for _, g := range gone {
		list = append(list, appcontrol.Removed{Image: g.Image, Size: g.Size, Partial: !g.Pulled})
	}
	return list, err
}

func (s *Server) removeImage(ctx context.Context, r appcontrol.Remove) (any, error) {
	name := store.Normal(r.Image)
	if name == "" {
		return nil, noName(r.Image)
	}
	need, err := s.need()
	if err != nil {
		return nil, err
	}
	gone, err := s.Images.Store.Remove(ctx, name, need, r.Dry)
	switch {
	case errors.Is(err, store.ErrNeeded):
		return nil, &control.Error{Text: "container image " + name + " is needed" + s.usersOf(ctx, name),
			Hint: "remove the app first, or change its image"}
	case errdefs.IsNotFound(err):
		return nil, &control.Error{Text: "there is no container image " + name, Hint: "try: osctl images"}
	case err != nil:
		return nil, err
	}
	return []appcontrol.Removed{{Image: gone.Image, Size: gone.Size}}, nil
}

// usersOf returns the users of an image, as the end of a sentence.
func (s *Server) usersOf(ctx context.Context, name string) string {
	list, err := s.images(ctx)
	if err != nil {
		return ""
	}
	for _, i := range list {
		if i.Name == name && len(i.UsedBy) > 0 {
			return " by " + strings.Join(i.UsedBy, ", ")
		}
	}
	return " by an app that is down, or a pull"
}

// up starts an app. It first pulls the images that a pull_policy wants to be up to date. If a pull fails, the app
// starts with the images that are there, and up reports the fault.
func (s *Server) up(ctx context.Context, a appcontrol.App) (any, error) {
	order := workload.Order{Verb: workload.ActUp, App: a.App, Service: a.Service}
	wanted, err := s.refreshed(ctx, order)
	if err != nil {
		return nil, err
	}
	late := len(wanted) == 0 // the app may be down, or just written: its images are known once it is up
	pulled := s.Images.Refresh.Now(ctx, wanted)
	if err := s.Orders.Do(ctx, order); err != nil {
		return nil, errors.Join(err, pulled)
	}
	if late {
		if wanted, err = s.refreshed(ctx, order); err != nil || len(wanted) == 0 {
			return nil, err
		}
		if pulled = s.Images.Refresh.Now(ctx, wanted); pulled == nil {
			return nil, s.Orders.Do(ctx, order)
		}
	}
	if pulled != nil {
		return nil, &control.Error{Text: pulled.Error(), Hint: "the app runs with the container image that is there"}
	}
	return nil, nil
}

// refreshed returns the images that the containers of an app want to be up to date.
func (s *Server) refreshed(ctx context.Context, order workload.Order) (list []store.Refresh, err error) {
	found, err := s.Orders.Find(ctx, order)
	for _, one := range found {
		if w := one.Want; w != nil && w.Renews() {
			list = append(list, store.Refresh{Image: w.Image, Policy: w.PullPolicy})
		}
	}
	return list, err
}

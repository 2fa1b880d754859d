package main

import (
	"bytes"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"resinos/containers/appcontrol"
	"resinos/containers/pull/pulltest"
	"resinos/mounts/testenv"
)

// follow waits for the end of a job as osctl does; the error is the job's.
func (d *device) follow(t *testing.T, j appcontrol.Job) (appcontrol.Progress, error) {
	t.Helper()
	ctx := patient(t)
	for {
		p, err := d.ask().Progress(ctx, j)
		if err != nil || p.Ended {
			return p, err
		}
	}
}

// work begins a job and waits for its end.
func (d *device) work(t *testing.T, op string, w appcontrol.Work) ([]string, error) {
	t.Helper()
	j, err := d.ask().Begin(patient(t), op, w)
	if err != nil {
		return nil, err
	}
	p, err := d.follow(t, j)
	return p.Images, err
}

// image is what the manager tells of an image.
func (d *device) image(t *testing.T, name string) (appcontrol.Image, bool) {
	t.Helper()
	list, err := d.ask().Images(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(list, func(i appcontrol.Image) bool { return i.Name == name })
	if at < 0 {
		return appcontrol.Image{}, false
	}
	return list[at], true
}

const busyboxName = "docker.io/library/busybox:latest"

// TestImages: people list, pull, load and remove container images; what an app needs stays, what a pull that was cut
// has left is shown and removed.
func TestImages(t *testing.T) {
	d := newDevice(t)
	registry, _ := d.registry()
	d.app("hello", hello, "busybox")
	engine := d.engine()
	d.started("hello.web")
	ctx := patient(t)
	image := registry.Push("shop/web", "1", runtimeArch, pulltest.Layer(t, "web", 3<<20), pulltest.Layer(t, "b", 1000))

	t.Run("list", func(t *testing.T) {
		i, ok := d.image(t, busyboxName)
		if !ok || !slices.Equal(i.UsedBy, []string{"hello.web"}) || !i.Needed || i.Size < 500_000 || i.Partial {
			t.Errorf("%+v", i)
		}
	})
	t.Run("a pull that was cut", func(t *testing.T) {
		held, goOn := make(chan struct{}, 10), make(chan struct{})
		defer close(goOn)
		registry.Answer(func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, image.Layers[1].Digest.String()) {
				held <- struct{}{}
				<-goOn
			}
			return false
		})
		j, err := d.ask().Begin(ctx, appcontrol.OpPull, appcontrol.Work{Image: image.Name})
		if err != nil {
			t.Fatal(err)
		}
		p, err := d.ask().Progress(ctx, j)
		for err == nil && p.Done < 3<<20 {
			p, err = d.ask().Progress(ctx, j)
		}
		if err != nil || p.Ended || p.Size < 3<<20 {
			t.Errorf("on the way: %+v, %v", p, err)
		}
		testenv.Receive(t, "a request for the layer", held)
		d.end(engine, syscall.SIGKILL)
		engine = d.engine()
		d.eventually("the new manager answers", func() bool {
			_, err := d.ask().Images(ctx)
			return err == nil
		})
		if _, err := d.ask().Progress(ctx, j); err == nil || !strings.Contains(err.Error(), "started again") {
			t.Errorf("progress of a job of the last manager: %v", err)
		}
		if i, ok := d.image(t, image.Name); !ok || !i.Partial || i.Size < 1000 {
			t.Errorf("what came: %+v", i)
		}
		gone, err := d.ask().Remove(ctx, appcontrol.OpPrune, appcontrol.Remove{})
		if err != nil || len(gone) != 1 || gone[0].Image != image.Name || !gone[0].Partial {
			t.Errorf("prune: %+v, %v", gone, err)
		}
		if i, ok := d.image(t, image.Name); ok {
			t.Errorf("it is still there: %+v", i)
		}
		registry.Answer(nil)
	})
	t.Run("pull", func(t *testing.T) {
		names, err := d.work(t, appcontrol.OpPull, appcontrol.Work{Image: image.Name})
		if i, ok := d.image(t, image.Name); err != nil || !slices.Equal(names, []string{image.Name}) || !ok ||
			i.Partial || i.Needed || len(i.UsedBy) > 0 || i.Digest != image.Manifest.String() {
			t.Errorf("%v, %v, %+v", names, err, i)
		}
		for name, want := range map[string]string{
			registry.Host + "/none:1": "pull " + registry.Host + "/none:1: ",
			"A B":                     "is no name of a container image",
		} {
			if _, err := d.work(t, appcontrol.OpPull, appcontrol.Work{Image: name}); err == nil ||
				!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("pull %s: %v", name, err)
			}
		}
		other := "s390x"
		foreign := registry.Push("foreign", "1", other, pulltest.Layer(t, "f", 1000))
		if _, err := d.work(t, appcontrol.OpPull, appcontrol.Work{Image: foreign.Name}); err == nil ||
			!strings.Contains(err.Error(), "is for linux/"+other+", and this device is linux/"+runtimeArch) {
			t.Errorf("pull for another architecture: %v", err)
		}
	})
	t.Run("rmi", func(t *testing.T) {
		if _, err := d.ask().Remove(ctx, appcontrol.OpRemoveImage, appcontrol.Remove{Image: "busybox"}); err == nil ||
			!strings.Contains(err.Error(), busyboxName+" is needed by hello.web") {
			t.Errorf("of an app: %v", err)
		}
		r := appcontrol.Remove{Image: image.Name, Dry: true}
		if gone, err := d.ask().Remove(ctx, appcontrol.OpRemoveImage, r); err != nil || len(gone) != 1 {
			t.Errorf("dry: %+v, %v", gone, err)
		}
		if _, ok := d.image(t, image.Name); !ok {
			t.Error("a dry run removes")
		}
		r.Dry = false
		if _, err := d.ask().Remove(ctx, appcontrol.OpRemoveImage, r); err != nil {
			t.Error(err)
		}
		if _, err := d.ask().Remove(ctx, appcontrol.OpRemoveImage, r); err == nil ||
			!strings.Contains(err.Error(), "there is no container image "+image.Name) {
			t.Errorf("twice: %v", err)
		}
	})
	t.Run("load", func(t *testing.T) {
		file := d.path("image.tar")
		busyboxImage(t, d.tools.busybox, file, "loaded:1", "x")
		names, err := d.work(t, appcontrol.OpLoad, appcontrol.Work{File: file})
		if want := "docker.io/library/loaded:1"; err != nil || !slices.Equal(names, []string{want}) {
			t.Errorf("%v, %v", names, err)
		} else if _, ok := d.image(t, want); !ok {
			t.Error("it is not listed")
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fifo := d.path("fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{
			"two thirds": text[:len(text)*2/3], "nothing": nil, "garbage": []byte("x"),
		} {
			w, err := os.OpenFile(fifo, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			j, err := d.ask().Begin(ctx, appcontrol.OpLoad, appcontrol.Work{File: fifo})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bytes.NewReader(data).WriteTo(w); err != nil {
				t.Error(err)
			}
			w.Close()
			if p, err := d.follow(t, j); err == nil || !strings.Contains(err.Error(), "load container images: ") {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
		}
	})
	t.Run("prune", func(t *testing.T) {
		gone, err := d.ask().Remove(ctx, appcontrol.OpPrune, appcontrol.Remove{})
		if _, ok := d.image(t, busyboxName); err != nil || len(gone) != 1 || !ok {
			t.Errorf("%+v, %v", gone, err)
		}
		d.app("broken", "services: [", "")
		if err := engine.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		d.eventually("the manager has read the app", func() bool {
			_, err := d.ask().Remove(ctx, appcontrol.OpPrune, appcontrol.Remove{})
			return err != nil && strings.Contains(err.Error(), "an app cannot be read")
		})
	})
}

const policed = `services:
  web:
    image: IMAGE
    pull_policy: POLICY
    command: ["/bin/sh", "-c", "while :; do sleep 1; done"]
    restart: always
    network_mode: none
`

// TestPullPolicy: a container is replaced by one of a newer image of its name if its pull_policy or a person says so,
// and not otherwise; without the registry it runs with what is there.
func TestPullPolicy(t *testing.T) {
	d := newDevice(t)
	registry, files := d.registry()
	image := registry.Push("policed", "1", runtimeArch, files)
	write := func(app, policy, image string) {
		t.Helper()
		d.app(app, strings.NewReplacer("IMAGE", image, "POLICY", policy).Replace(policed), "")
	}
	write("always", "always", image.Name)
	write("missing", "missing", image.Name)
	d.engine()
	d.started("always.web")
	d.started("missing.web")
	made := func(id string) string { return d.labels(id)["resinos/image-digest"] }
	next := registry.Push("policed", "1", runtimeArch, files, pulltest.Layer(t, "next", 1000))

	d.do(t, appcontrol.OpUp, "always")
	if got := made("always.web"); got != next.Manifest.String() || d.pid("always.web") == 0 {
		t.Errorf("after up of always: made from %s, not %s", got, next.Manifest)
	}
	if i, _ := d.image(t, image.Name); i.Digest != next.Manifest.String() ||
		made("missing.web") != image.Manifest.String() {
		t.Errorf("beside it: image %s, missing made from %s", i.Digest, made("missing.web"))
	}
	before := d.pid("always.web")
	d.do(t, appcontrol.OpUp, "always")
	if d.pid("always.web") != before {
		t.Error("up replaces a container of the same image")
	}
	d.do(t, appcontrol.OpRestart, "missing")
	if got := made("missing.web"); got != image.Manifest.String() {
		t.Errorf("a restart gives missing another image: %s", got)
	}
	d.do(t, appcontrol.OpUp, "missing")
	if got := made("missing.web"); got != next.Manifest.String() || d.pid("missing.web") == 0 {
		t.Errorf("after up of missing: made from %s", got)
	}

	registry.Answer(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	before = d.pid("always.web")
	if err := d.ask().Change(patient(t), appcontrol.OpUp, appcontrol.App{App: "always"}); err == nil ||
		!strings.Contains(err.Error(), "pull "+image.Name) || !strings.Contains(err.Error(), "image that is there") {
		t.Errorf("without the registry: %v", err)
	}
	if d.pid("always.web") != before {
		t.Error("without the registry it is replaced")
	}

	write("never", "never", "loaded:1")
	err := d.ask().Change(patient(t), appcontrol.OpUp, appcontrol.App{App: "never"})
	if err == nil || !strings.Contains(err.Error(), "loaded:1 is not there, and pull_policy is never") {
		t.Errorf("never: %v", err)
	}
	busyboxImage(t, d.tools.busybox, d.path("image.tar"), "loaded:1", "x")
	if _, err := d.work(t, appcontrol.OpLoad, appcontrol.Work{File: d.path("image.tar")}); err != nil {
		t.Fatal(err)
	}
	d.started("never.web")
	if err := os.Mkdir(d.path("images"), 0o755); err != nil { // as resin preload leaves it
		t.Fatal(err)
	}
	busyboxImage(t, d.tools.busybox, d.path("images", "shared.tar"), "shared:1", "x")
	write("shared", "never", "shared:1")
	d.started("shared.web")
}

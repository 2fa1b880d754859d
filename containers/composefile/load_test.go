package composefile_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"resinos/containers/app"
	"resinos/containers/composefile"
	"resinos/mounts/testenv"
)

// load loads an app from its files, and returns what it is and what is said of it, without the path of the test.
func load(t testing.TB, files map[string]string) (app.App, string) {
	t.Helper()
	dir := t.TempDir()
	a, warnings, err := composefile.Load(t.Context(), "hello", dir, func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return []byte(text), nil
	})
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "%v\n", err)
	} else {
		text, _ := json.MarshalIndent(a, "", "\t")
		fmt.Fprintf(&b, "%s\n", text)
	}
	for _, w := range warnings {
		fmt.Fprintf(&b, "warning: %v\n", w)
	}
	return a, strings.ReplaceAll(b.String(), dir, "DIR")
}

// read returns the files of a test: one compose file, or all files of an app in a txtar archive.
func read(t testing.TB, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(file) == ".yaml" {
		return map[string]string{"compose.yaml": string(data)}
	}
	out := map[string]string{}
	for _, f := range txtar.Parse(data).Files {
		out[f.Name] = string(f.Data)
	}
	return out
}

func tests(t testing.TB) []string {
	t.Helper()
	list, err := filepath.Glob("testdata/parse/*.[yt]*")
	if err != nil || len(list) < 10 {
		t.Fatalf("testdata: %v, %v", list, err)
	}
	return list
}

func TestLoad(t *testing.T) {
	t.Setenv("UNSET", "leaked from the host")
	for _, file := range tests(t) {
		name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		t.Run(name, func(t *testing.T) {
			_, got := load(t, read(t, file))
			testenv.Golden(t, "parse/"+name+".golden", got)
		})
	}
}

// TestNothingIsHalf: whatever is accepted is whole, and the same at each loading.
func TestNothingIsHalf(t *testing.T) {
	for _, file := range tests(t) {
		a, got := load(t, read(t, file))
		if _, again := load(t, read(t, file)); again != got {
			t.Errorf("%s is not the same twice:\n%s\n%s", file, got, again)
		}
		for _, c := range a.Containers {
			if c.Image == "" || !app.ValidName(c.Service) || c.Network == "" || c.Restart.Policy == "" {
				t.Errorf("%s: incomplete container %+v", file, c)
			}
		}
	}
}

// TestBounds: each is one line that names what is wrong.
func TestBounds(t *testing.T) {
	services := func(n int) string {
		var b strings.Builder
		b.WriteString("services:\n")
		for i := range n {
			fmt.Fprintf(&b, "  s%d: {image: busybox}\n", i)
		}
		return b.String()
	}
	include := map[string]string{"compose.yaml": "include: [a0.yaml]\nservices: {x: {image: busybox}}\n"}
	for i := range 100 {
		include[fmt.Sprintf("a%d.yaml", i)] = fmt.Sprintf("include: [a%d.yaml]\n", i+1)
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"services": {map[string]string{"compose.yaml": services(1000)},
			"services: 1000 containers, at most 100 run in one app"},
		"scale": {map[string]string{"compose.yaml": "services: {x: {image: busybox, scale: 100000000}}"},
			"100000000 containers, at most 100"},
		"include": {include, "more than 64 files are included"},
		"circle": {map[string]string{"compose.yaml": "include: [compose.yaml]\nservices: {x: {image: busybox}}"},
			"include cycle detected"},
		"depends on itself": {map[string]string{"compose.yaml": "services: {a: {image: x, depends_on: [b]}, " +
			"b: {image: x, depends_on: [a]}}"}, "dependency cycle detected: a -> b -> a"},
		"depends on nothing": {map[string]string{"compose.yaml": "services: {a: {image: x, depends_on: [b]}}"},
			`"a" depends on undefined service "b"`},
		"outside": {map[string]string{"compose.yaml": "include: [../other/compose.yaml]\nservices: {x: {image: a}}"},
			"lies outside of the app's directory DIR: put the file there"},
		"env_outside": {map[string]string{"compose.yaml": "services: {x: {image: busybox, env_file: /etc/passwd}}"},
			"services.x.env_file: /etc/passwd lies outside of the app's directory DIR"},
		"env_lacking": {map[string]string{"compose.yaml": "services:\n  x:\n    image: a\n    env_file: [none.env]\n"},
			"DIR/compose.yaml:4: services.x.env_file: DIR/none.env does not exist"},
		"nothing": {map[string]string{}, "no compose file: write compose.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := load(t, c.files); !strings.Contains(got, c.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("it says %q, want one line with %q", got, c.want)
			}
		})
	}
}

// TestPullPolicy: when the image is pulled, and for which architecture.
func TestPullPolicy(t *testing.T) {
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	for keys, want := range map[string]string{
		"pull_policy: daily":          `"PullPolicy": "every_24h0m0s"`,
		"pull_policy: weekly":         `"PullPolicy": "every_168h0m0s"`,
		"pull_policy: every_2d3h":     `"PullPolicy": "every_51h0m0s"`,
		"pull_policy: always":         `"PullPolicy": "always"`,
		"pull_policy: never":          `"PullPolicy": "never"`,
		"pull_policy: if_not_present": `"Image": "docker.io/library/a:latest",` + "\n\t\t\t" + `"Entrypoint"`,
		"pull_policy: build":          "a device builds no images: build and push it on another machine",
		"pull_policy: every_-5m":      "pull_policy",
		"pull_policy: refresh":        `"refresh" is none: write always`,
		"platform: linux/" + other: "services.x.platform: linux/" + other + " is not the device's, linux/" +
			runtime.GOARCH,
		"platform: windows/" + runtime.GOARCH: "is not the device's",
		"platform: linux/" + runtime.GOARCH:   `"Platform": "linux/` + runtime.GOARCH,
	} {
		_, got := load(t, map[string]string{"compose.yaml": "services:\n  x:\n    image: a\n    " + keys + "\n"})
		if !strings.Contains(got, want) || strings.Contains(got, "not carried out") {
			t.Errorf("%s: %s", keys, got)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, file := range tests(f) {
		f.Add(read(f, file)["compose.yaml"])
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, got := load(t, map[string]string{"compose.yaml": text})
		for _, c := range a.Containers {
			if c.Image == "" || !app.ValidName(c.Service) || c.Network == "" {
				t.Fatalf("incomplete container %+v", c)
			}
		}
		if strings.TrimSpace(got) == "" {
			t.Fatal("nothing is said")
		}
	})
}

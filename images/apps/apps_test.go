package apps

import (
	"context"
	"io/fs"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

func TestBuiltin(t *testing.T) {
	dir, ok := Builtin("hello")
	if !ok {
		t.Fatal("no app hello")
	}
	text, err := fs.ReadFile(dir, "compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir: "/", ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: text}},
		Environment: types.Mapping{},
	}, func(o *loader.Options) { o.SetProjectName("hello", true) })
	if err != nil {
		t.Fatal(err)
	}
	hello := project.Services["hello"]
	if hello.Image != "resinos/hello:latest" || hello.Restart != "always" || hello.NetworkMode != "host" {
		t.Errorf("service = %+v", hello)
	}
	if script := hello.Command[len(hello.Command)-1]; !strings.Contains(script, "i=$((i + 1))") {
		t.Errorf("script = %q, want single dollars", script)
	}
}

func TestNoSuchApp(t *testing.T) {
	for _, name := range []string{"", ".", "..", "none", "/hello", "hello/compose.yaml"} {
		if _, ok := Builtin(name); ok {
			t.Errorf("Builtin(%q) found an app", name)
		}
	}
}

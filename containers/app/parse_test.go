package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"resinos/containers/app"
	"resinos/mounts/testenv"
)

// print is what the golden files hold.
func print(a app.App, warnings app.Faults, err error) string {
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
	return b.String()
}

func files(t testing.TB) []string {
	t.Helper()
	list, err := filepath.Glob("testdata/parse/*.yaml")
	if err != nil || len(list) == 0 {
		t.Fatalf("testdata: %v, %v", list, err)
	}
	return list
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParse(t *testing.T) {
	t.Setenv("UNSET", "leaked from the host")
	for _, file := range files(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			got := print(app.Parse("hello", "compose.yaml", read(t, file)))
			testenv.Golden(t, "parse/"+strings.TrimSuffix(filepath.Base(file), ".yaml")+".golden", got)
		})
	}
}

func TestParseIsBounded(t *testing.T) {
	_, _, err := app.Parse("hello", "compose.yaml", []byte(strings.Repeat("# long\n", 1<<16)))
	if err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("Parse of a huge file: %v", err)
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"web": true, "a": true, "0": true, "a-b_c": true, strings.Repeat("a", 76): true,
		"": false, "-a": false, "a-": false, "a--b": false, "a_-b": false, "A": false, "a.b": false, "ä": false, "a/b": false,
		strings.Repeat("a", 77): false, "..": false,
	} {
		if got := app.ValidName(name); got != want {
			t.Errorf("ValidName(%q) = %v", name, got)
		}
	}
}

// compose is what compose-go's own loader, with the schema, makes of data: the fields that we carry
// out, by service.
func compose(data []byte) (map[string]string, error) {
	project, err := loader.LoadWithContext(context.Background(),
		types.ConfigDetails{WorkingDir: "/none", ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: data}}},
		func(o *loader.Options) {
			o.SetProjectName("hello", true)
			o.SkipInclude, o.SkipExtends, o.SkipResolveEnvironment, o.SkipResolveLabels = true, true, true, true
		})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for name, s := range project.Services {
		env := s.Environment.ToMapping()
		grace := "10s"
		if s.StopGracePeriod != nil {
			grace = s.StopGracePeriod.String()
		}
		out[name] = fmt.Sprintf("%q %q %q %q %q %q %q", s.Command, s.Entrypoint, envOf(env, s.Environment), s.WorkingDir, s.User, s.StopSignal, grace)
	}
	return out, nil
}

func envOf(values types.Mapping, given types.MappingWithEquals) []string {
	out := []string{}
	for _, k := range slices.Sorted(maps.Keys(given)) {
		if given[k] != nil {
			out = append(out, k+"="+values[k])
		}
	}
	return out
}

func ours(a app.App) map[string]string {
	out := map[string]string{}
	for _, c := range a.Containers {
		out[c.Service] = fmt.Sprintf("%q %q %q %q %q %q %q", c.Command, c.Entrypoint, slices.Clone(c.Environment), c.WorkingDir, c.User, c.StopSignal, c.StopGrace.String())
	}
	return out
}

// TestAgreesWithCompose: where both accept a file, both read the same out of it; and nothing is
// accepted by us that the schema of compose refuses.
func TestAgreesWithCompose(t *testing.T) {
	agreed := 0
	for _, file := range files(t) {
		data := read(t, file)
		a, _, err := app.Parse("hello", "compose.yaml", data)
		if err != nil {
			continue
		}
		want, err := compose(data)
		if err != nil {
			t.Errorf("%s: accepted, but compose says: %v", file, err)
			continue
		}
		agreed++
		if got := ours(a); !maps.Equal(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", file, got, want)
		}
	}
	if agreed < 2 {
		t.Errorf("only %d files were compared", agreed)
	}
}

func FuzzParse(f *testing.F) {
	for _, file := range files(f) {
		f.Add(read(f, file))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, warnings, err := app.Parse("hello", "compose.yaml", data)
		var faults app.Faults
		if err != nil && (!errors.As(err, &faults) || len(faults) == 0) {
			t.Fatalf("error is not Faults: %v", err)
		}
		if again := print(app.Parse("hello", "compose.yaml", data)); again != print(a, warnings, err) {
			t.Fatalf("not the same twice:\n%s\n%s", again, print(a, warnings, err))
		}
		if err == nil && len(a.Containers) > 0 {
			for _, c := range a.Containers {
				if c.Image == "" || !app.ValidName(c.Service) || c.Network == "" {
					t.Fatalf("incomplete container %+v", c)
				}
			}
		}
	})
}

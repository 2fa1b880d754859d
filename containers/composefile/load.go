// Package composefile turns the compose files of one app into a typed app.App: compose-go's own loader reads them
// (variables, .env, env_file, profiles, extends, include, merged files), and the tables here list the parts of the
// result that are carried out. It opens no file itself: the caller of Load provides the files. Only the program
// containers/compose links it, because the JSON schema behind the loader costs 15 ms at every start. Read Load first.
package composefile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"resinos/containers/app"
	"resinos/containers/composefile/lines"
)

// Names are the names of a compose file, the preferred one first.
var Names = []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}

const (
	// maxFiles is how many files one app may include.
	maxFiles = 64
	// maxContainers is how many containers one app may have: more are a mistake in a scale, or an attack.
	maxContainers = 100
)

// Read returns what a file of the app holds; name is relative to the app's directory. The error wraps fs.ErrNotExist if
// there is no such file.
type Read func(name string) ([]byte, error)

// Load reads the app called name. dir is where its files lie on the device; what is read is written there too, because
// compose-go opens it there again: the caller has another, empty directory at that path. The error is app.Faults.
// Warnings name what is left out; the app runs all the same.
func Load(ctx context.Context, name, dir string, read Read) (app.App, app.Faults, error) {
	l := &load{name: name, dir: dir, read: read, environment: types.Mapping{}}
	a, err := l.load(ctx)
	l.warnings = sorted(l.warnings)
	if err != nil {
		return app.App{}, l.warnings, sorted(append(l.faults, l.faultsOf(err)...))
	}
	if len(l.faults) > 0 {
		return app.App{}, l.warnings, sorted(l.faults)
	}
	return a, l.warnings, nil
}

type load struct {
	name, dir        string
	read             Read
	environment      types.Mapping
	profiles         []string
	documents        []lines.Document // of what was read, for lines
	faults, warnings app.Faults
	project          *types.Project
}

func (l *load) load(ctx context.Context) (app.App, error) {
	if !app.ValidName(l.name) {
		return app.App{},
			fmt.Errorf("app name %q is not of a-z, 0-9 and single - or _ between them: rename the directory",
				l.name)
	}
	if err := l.dotenv(); err != nil {
		return app.App{}, err
	}
	files, err := l.files()
	if err != nil {
		return app.App{}, err
	}
	defer l.listen()()
	details := types.ConfigDetails{WorkingDir: l.dir, ConfigFiles: files, Environment: l.environment}
	options := func(o *loader.Options) {
		o.SetProjectName(l.name, true)
		o.Profiles = l.profiles
		o.SkipResolveEnvironment, o.SkipResolveLabels = true, true // until their files are here
	}
	model, err := l.model(ctx, details, options)
	if err != nil {
		return app.App{}, err
	}
	l.check(model)
	l.nameContainers(model)
	l.project, err = loader.ModelToProject(model, loader.ToOptions(&details, []func(*loader.Options){options}), details)
	if err != nil {
		return app.App{}, err
	}
	if err := l.resolve(); err != nil {
		return app.App{}, err
	}
	return l.convert(), nil
}

// model has compose-go load the files. It opens files of include and extends itself, and says which one it lacks: that
// one is fetched, and loading begins again.
func (l *load) model(ctx context.Context, d types.ConfigDetails, o func(*loader.Options)) (map[string]any, error) {
	asked := map[string]bool{}
	for {
		model, err := loader.LoadModelWithContext(ctx, d, o)
		var lacking *fs.PathError
		if !errors.As(err, &lacking) || !errors.Is(err, fs.ErrNotExist) || asked[lacking.Path] {
			return model, err
		}
		if asked[lacking.Path] = true; len(asked) > maxFiles {
			return nil, fmt.Errorf("more than %d files are included: write fewer", maxFiles)
		}
		path, err := l.fetchPath(lacking.Path)
		if err != nil {
			return nil, fmt.Errorf("include or extends: %w", err)
		}
		// compose-go takes the variables of an included file from beside it, if they are there.
		_, err = l.fetchPath(filepath.Join(filepath.Dir(path), ".env"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// dotenv reads the variables of the project.
func (l *load) dotenv() error {
	data, err := l.fetch(".env")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	vars, err := dotenv.Parse(strings.NewReader(string(data)))
	if err != nil {
		return fmt.Errorf(".env: %w", err)
	}
	l.environment = vars
	l.profiles = strings.FieldsFunc(vars["COMPOSE_PROFILES"], func(r rune) bool { return r == ',' || r == ' ' })
	return nil
}

// files are the compose file and the one that is merged into it, or those that COMPOSE_FILE names.
func (l *load) files() ([]types.ConfigFile, error) {
	if list := l.environment["COMPOSE_FILE"]; list != "" {
		return l.named(strings.Split(list, ":"))
	}
	var out []types.ConfigFile
	for _, name := range Names {
		file, err := l.file(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if len(out) > 0 { // whatever it is, it does not count
			l.warnings = append(l.warnings, app.Fault{File: filepath.Join(l.dir, name), Text: fmt.Sprintf(
				"several compose files, the first counts: %s, not %s", filepath.Base(out[0].Filename), name)})
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, file)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no compose file: write %s", Names[0])
	}
	for _, name := range Names {
		file, err := l.file(strings.Replace(name, ".y", ".override.y", 1))
		if err == nil {
			return append(out, file), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return out, nil
}

func (l *load) named(names []string) ([]types.ConfigFile, error) {
	out := make([]types.ConfigFile, len(names))
	for i, name := range names {
		file, err := l.file(name)
		if err != nil {
			return nil, fmt.Errorf("COMPOSE_FILE in .env names %s: %w", name, err)
		}
		out[i] = file
	}
	return out, nil
}

func (l *load) file(name string) (types.ConfigFile, error) {
	data, err := l.fetch(name)
	if err != nil {
		return types.ConfigFile{}, err
	}
	if data == nil {
		data = []byte{} // nil would have compose-go open the file
	}
	return types.ConfigFile{Filename: filepath.Join(l.dir, name), Content: data}, nil
}

// resolve reads the files of variables and of labels that services name.
func (l *load) resolve() error {
	for _, s := range l.project.Services {
		for _, f := range s.EnvFiles {
			if _, err := l.fetchPath(f.Path); err != nil && (bool(f.Required) || !errors.Is(err, fs.ErrNotExist)) {
				return fmt.Errorf("services.%s.env_file: %w", s.Name, err)
			}
		}
		for _, f := range s.LabelFiles {
			if _, err := l.fetchPath(f); err != nil {
				return fmt.Errorf("services.%s.label_file: %w", s.Name, err)
			}
		}
	}
	project, err := l.project.WithServicesEnvironmentResolved(true)
	if err == nil {
		project, err = project.WithServicesLabelsResolved(true)
	}
	if err == nil {
		l.project = project
	}
	return err
}

// fetchPath is fetch of a path as compose-go has it: absolute.
func (l *load) fetchPath(path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(l.dir, path)
	}
	name, err := filepath.Rel(l.dir, path)
	if err != nil || !filepath.IsLocal(name) {
		return "", fmt.Errorf("%s lies outside of the app's directory %s: put the file there", path, l.dir)
	}
	_, err = l.fetch(name)
	return path, err
}

// fetch reads a file and writes it where compose-go will look for it.
func (l *load) fetch(name string) ([]byte, error) {
	name = filepath.Clean(name)
	if !filepath.IsLocal(name) {
		return nil, fmt.Errorf("%s lies outside of the app's directory %s: put the file there", name, l.dir)
	}
	data, err := l.read(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s does not exist: %w", filepath.Join(l.dir, name), fs.ErrNotExist)
		}
		return nil, err
	}
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return nil, err
	}
	if slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(name)) {
		l.documents = append(l.documents, lines.Parse(path, data)...)
	}
	return data, nil
}

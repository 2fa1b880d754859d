package boottest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"resinos/bsp/boards"
	"resinos/images/qemu"
	"resinos/mounts/testenv"
)

// storyBoards are the boards that tell stories; the first tells all of them.
var storyBoards = []string{"qemu-x86_64", "qemu-arm64"}

// Environment of the tests.
const (
	imagesVariable = "RESINOS_IMAGES" // directory of ready images BOARD-VARIANT.img; without it they are built
	lacksVariable  = "RESINOS_LACKS"  // set by TestMain: why no device can be booted here
	proveVariable  = "RESINOS_PROVE"  // not empty: also the stories of testdata/prove.txt
	top            = "../.."          // of the source tree, as seen from this package
)

// TestMain moves the whole test into namespaces of its own; what needs the host's network is done before.
func TestMain(m *testing.M) {
	if Entered() {
		code := m.Run()
		failed.print(os.Stdout)
		os.Exit(code)
	}
	lacks := ""
	dir, err := prepare(context.Background())
	if err != nil {
		lacks = err.Error()
		if testenv.CI() {
			fmt.Fprintln(os.Stderr, "boottest:", lacks)
			os.Exit(1)
		}
		os.Setenv(lacksVariable, lacks)
		os.Exit(m.Run())
	}
	code, err := Enter(imagesVariable + "=" + dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "boottest:", err)
		code = 1
	}
	os.Exit(code)
}

// prepare checks what the host lacks, and makes images and firmware ready.
func prepare(ctx context.Context) (dir string, err error) {
	var lacks []error
	if os.Getuid() != 0 {
		lacks = append(lacks, errors.New("root: namespaces and tap links need it"))
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		lacks = append(lacks, err)
	}
	for program, pkg := range map[string]string{
		"dnsmasq": "dnsmasq-base", "qemu-img": "qemu-utils", "qemu-system-x86_64": "qemu-system-x86",
		"qemu-system-aarch64": "qemu-system-arm",
		"e2fsck":              "e2fsprogs", "debugfs": "e2fsprogs", "fsck.vfat": "dosfstools", "mcopy": "mtools",
		"unsquashfs": "squashfs-tools", "mksquashfs": "squashfs-tools",
	} {
		if _, err := exec.LookPath(program); err != nil {
			lacks = append(lacks, fmt.Errorf("%s: apt-get install %s", program, pkg))
		}
	}
	if err := errors.Join(lacks...); err != nil {
		return "", fmt.Errorf("cannot boot devices, this host lacks: %w", err)
	}
	dir = os.Getenv(imagesVariable)
	if dir == "" {
		dir = filepath.Join(top, "build")
		if err := buildImages(ctx, dir); err != nil {
			return "", err
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	for _, name := range storyBoards {
		if _, err := firmware(ctx, name); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// buildImages runs the host command, which rebuilds what changed.
func buildImages(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	all := [][2]string{{storyBoards[0], "development"}, {storyBoards[1], "development"},
		{storyBoards[0], "production"}, {storyBoards[0], "standalone"}}
	if os.Getenv(proveVariable) != "" {
		all = append(all, [2]string{storyBoards[1], "production"}, [2]string{storyBoards[1], "standalone"})
	}
	for _, want := range all {
		cmd := exec.CommandContext(ctx, "bin/resin", "build", "--board", want[0], "--variant", want[1],
			"--without", "docker", "-o", "build/"+want[0]+"-"+want[1]+".img")
		cmd.Dir = top
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build image (make build-all makes bin/resin): %w", err)
		}
	}
	return nil
}

func firmware(ctx context.Context, name string) ([]qemu.FirmwareFile, error) {
	board, err := boards.Load(name)
	if err != nil {
		return nil, err
	}
	return qemu.Firmware(ctx, board, filepath.Join(top, ".cache"), nil)
}

// images is the directory of the images.
type images string

// options boots an image as it was built; the caller adds an overlay.
func (i images) options(name, variant string) (qemu.Options, error) {
	board, err := boards.Load(name)
	if err != nil {
		return qemu.Options{}, err
	}
	files, err := firmware(context.Background(), name) // from the cache: prepare has put it there
	if err != nil {
		return qemu.Options{}, err
	}
	image := filepath.Join(string(i), name+"-"+variant+".img")
	return qemu.Options{Board: board, Firmware: files, Image: image}, nil
}

// openLab fails, or skips outside CI, if there can be none.
func openLab(t *testing.T) *Lab {
	t.Helper()
	if lacks := os.Getenv(lacksVariable); lacks != "" {
		testenv.Lacking(t, "%s", lacks)
	}
	lab, err := Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return lab
}

// TestStories tells all stories. Each board's shared device and each story with a device of its own is one lane; go
// test runs as many lanes at once as there are processors.
func TestStories(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: no boots")
	}
	lab := openLab(t)
	dir := images(os.Getenv(imagesVariable))
	later := leftToProve(t)
	var places atomic.Int32
	place := func(t *testing.T) *Device {
		device, err := lab.Device(int(places.Add(1)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(device.Kill)
		return device
	}
	t.Run("lanes", func(t *testing.T) { // ends when all its parallel parts have: the lab outlives them
		for i, board := range storyBoards {
			t.Run(board+"/shared", func(t *testing.T) {
				t.Parallel()
				tellShared(t, dir, board, later, place)
			})
			for _, set := range []string{"every", "own"}[:2-min(i, 1)] {
				for _, file := range stories(t, set) {
					name := strings.TrimSuffix(filepath.Base(file), ".txt")
					t.Run(board+"/"+set+"/"+name, func(t *testing.T) {
						if later.has(board, file) {
							leave(t)
						}
						t.Parallel()
						tell(t, []string{file}, func() *scene {
							return &scene{ctx: t.Context(), images: dir, board: board, device: place(t)}
						})
					})
				}
			}
		}
	})
}

func stories(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories in %s (%v)", dir, err)
	}
	return files
}

func leave(t *testing.T) {
	t.Skip("set RESINOS_PROVE, as make prove does: testdata/prove.txt leaves it out")
}

// patterns are those of testdata/prove.txt.
type patterns []string

// leftToProve reads what is not to be told now. Each pattern has to match a story.
func leftToProve(t *testing.T) patterns {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "prove.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var all patterns
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		board, story, _ := strings.Cut(line, "/")
		files, err := filepath.Glob(filepath.Join("testdata", story+".txt"))
		if err != nil || len(files) == 0 || !slices.Contains(storyBoards, board) {
			t.Fatalf("prove.txt: %s is no story (%v)", line, err)
		}
		all = append(all, line)
	}
	if os.Getenv(proveVariable) != "" {
		return nil
	}
	return all
}

// has reports whether a board leaves the story of a file to make prove.
func (p patterns) has(board, file string) bool {
	story, _ := filepath.Rel("testdata", strings.TrimSuffix(file, ".txt"))
	return slices.ContainsFunc(p, func(pattern string) bool {
		ok, _ := path.Match(pattern, board+"/"+filepath.ToSlash(story)) // leftToProve has read it
		return ok
	})
}

// tellShared boots one device for all stories of the shared directory that are to be told now.
func tellShared(t *testing.T, dir images, board string, later patterns, place func(*testing.T) *Device) {
	files := slices.DeleteFunc(stories(t, "shared"), func(file string) bool { return later.has(board, file) })
	if len(files) == 0 {
		leave(t)
	}
	o, err := dir.options(board, "development")
	if err != nil {
		t.Fatal(err)
	}
	device := place(t)
	o.Overlay = filepath.Join(t.TempDir(), "shared.qcow2")
	if err := device.Start(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := device.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Stories about containers wait briefly only, so that a device without any fails soon.
	if _, err := awaitOutput(t, device, 0); err != nil {
		t.Error(err)
	}
	tell(t, files, func() *scene {
		return &scene{ctx: t.Context(), images: dir, board: board, device: device, shared: true}
	})
	if t.Failed() {
		t.Log(device.Guest().LastLines())
	}
}

// tell runs stories one after the other.
func tell(t *testing.T, files []string, newScene func() *scene) {
	testscript.RunT(inOrder{t}, testscript.Params{
		Files: files,
		Cmds:  commands,
		Setup: func(e *testscript.Env) error {
			s := newScene()
			e.Values[sceneKey{}] = s
			s.vars = map[string]string{
				"BOARD": s.board, "ADDRESS": Address(s.device.number).String(), "GATEWAY": Gateway,
				"KNOWN_NAME": KnownName, "KNOWN_ADDRESS": KnownAddress,
			}
			for name, value := range s.vars {
				e.Setenv(name, value)
			}
			if !s.shared {
				e.Defer(s.device.Kill) // before the work directory with its disk goes
			}
			story := e.T().(inOrder).T
			s.t = story
			e.Defer(func() { // first: the device still runs
				if story.Failed() {
					failed.add(story.Name(), s.device.explain(s.ctx))
				}
			})
			return nil
		},
		Condition: func(name string) (bool, error) {
			for _, b := range storyBoards {
				if name == b {
					return strings.Contains(t.Name(), "/"+b+"/"), nil
				}
			}
			return false, fmt.Errorf("unknown condition %s", name)
		},
	})
}

// inOrder is a testscript.T whose scripts run one after the other: they share a device.
type inOrder struct{ *testing.T }

func (i inOrder) Parallel() {}

// Log is called once for a script, at its end.
func (i inOrder) Log(args ...any) {
	i.T.Helper()
	i.T.Log(args...)
	if i.T.Failed() {
		failed.add(i.T.Name(), fmt.Sprint(args...))
	}
}

func (i inOrder) Verbose() bool { return testing.Verbose() }
func (i inOrder) Run(name string, f func(testscript.T)) {
	i.T.Run(name, func(t *testing.T) { f(inOrder{t}) })
}

// failures are the ends of the stories that failed, told once more after everything else: whoever keeps only the tail
// of a run still reads why.
type failures struct {
	mu   sync.Mutex
	said []string
}

var failed failures

func (f *failures) add(name, log string) {
	const lines, width = 40, 240
	tail := strings.Split(strings.TrimSpace(log), "\n")
	tail = tail[max(0, len(tail)-lines):]
	for i, line := range tail {
		tail[i] = fmt.Sprintf("    %.*s", width, line)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, name+" failed:\n"+strings.Join(tail, "\n"))
}

func (f *failures) print(w io.Writer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, text := range f.said {
		fmt.Fprintln(w, text)
	}
}

// reach tries to connect; where it must not get through, only for a moment.
func reach(ctx context.Context, address string, must bool) error {
	limit := 3 * time.Second
	if must {
		limit = testenv.Patience()
	}
	d := net.Dialer{Timeout: limit}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

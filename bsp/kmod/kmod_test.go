package kmod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/kmodule"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"resinos/mounts/testenv"
)

func ExampleName() {
	fmt.Println(Name("crc32c-intel"), NameOf("kernel/net/9p/9pnet-virtio.ko.xz"),
		Alias("of:N*T*Cbrcm,bcm2835-pm-wdt[a-z]"))
	// Output: crc32c_intel 9pnet_virtio of:N*T*Cbrcm,bcm2835_pm_wdt[a-z]
}

// kernelModules is a small kernel with every kind of need: hard, soft by name, soft by alias, a ring of soft ones,
// afterwards.
func kernelModules() []Module {
	path := func(p string) string { return "kernel/" + p + ".ko" }
	return []Module{
		{Name: "ext4", Path: path("fs/ext4/ext4"), Depends: []string{"jbd2", "mbcache"}, Pre: []string{"crypto_crc32c"},
			Aliases: []string{"fs_ext4"}},
		{Name: "jbd2", Path: path("fs/jbd2/jbd2")},
		{Name: "mbcache", Path: path("fs/mbcache")},
		{Name: "crc32c_generic", Path: path("crypto/crc32c_generic"), Aliases: []string{"crypto_crc32c"}},
		{Name: "crc32c_intel", Path: path("arch/x86/crypto/crc32c-intel"), Aliases: []string{"crypto_crc32c"}},
		{Name: "nf_tables", Path: path("net/netfilter/nf_tables"), Depends: []string{"libcrc32c", "nfnetlink"}},
		{Name: "nfnetlink", Path: path("net/netfilter/nfnetlink")},
		{Name: "libcrc32c", Path: path("lib/libcrc32c"), Pre: []string{"crypto_crc32c"}},
		{Name: "a", Path: path("ring/a"), Pre: []string{"b"}},
		{Name: "b", Path: path("ring/b"), Pre: []string{"a"}},
		{Name: "ipmi_msghandler", Path: path("ipmi/ipmi_msghandler"), Post: []string{"ipmi_devintf", "absent"}},
		{Name: "ipmi_devintf", Path: path("ipmi/ipmi_devintf"), Depends: []string{"ipmi_msghandler"}},
		{Name: "virtio_net", Path: path("drivers/net/virtio_net"), Depends: []string{"virtio"},
			Aliases: []string{"virtio:d00000001v*"}},
		{Name: "tun", Path: path("drivers/net/tun"), Nodes: []Node{{Name: "net/tun", Major: 10, Minor: 200}},
			Aliases: []string{"devname:net/tun"}},
		{Name: "virtio", Path: path("drivers/virtio/virtio"), Builtin: true},
	}
}

func names(modules []Module) string {
	var all []string
	for _, m := range modules {
		all = append(all, m.Name)
	}
	return strings.Join(all, " ")
}

func TestClosure(t *testing.T) {
	for _, c := range []struct{ name, wanted, want string }{
		{"soft dependency by alias goes first, generic if nobody cares", "ext4", "crc32c_generic jbd2 mbcache ext4"},
		{"soft dependency is served by what is wanted", "ext4 crc32c-intel", "crc32c_intel jbd2 mbcache ext4"},
		{"soft dependency of a dependency", "nf_tables", "crc32c_generic libcrc32c nfnetlink nf_tables"},
		{"ring of soft dependencies", "a", "b a"},
		{"soft dependency afterwards", "ipmi_msghandler", "ipmi_msghandler ipmi_devintf"},
		{"built in", "virtio_net virtio", "virtio_net"},
		{"order of the list is kept", "jbd2 nfnetlink ext4", "jbd2 nfnetlink crc32c_generic mbcache ext4"},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Closure(kernelModules(), strings.Fields(c.wanted))
			if err != nil || names(got) != c.want {
				t.Errorf("Closure(%q) = %q, %v, want %q", c.wanted, names(got), err, c.want)
			}
		})
	}
}

func TestClosureNamesAllFaults(t *testing.T) {
	modules := append(kernelModules(), Module{Name: "x", Depends: []string{"gone", "y"}},
		Module{Name: "y", Depends: []string{"x"}})
	_, err := Closure(modules, []string{"nowhere", "x"})
	for _, want := range []string{"module nowhere: the kernel has none", "module gone, which x needs",
		"module y and x need each other"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Closure: error %v, want %q in it", err, want)
		}
	}
}

// carried is the index of everything in kernelModules.
func carried(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := WriteIndex(dir, kernelModules()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestIndexFilesGolden(t *testing.T) {
	files, err := IndexFiles(kernelModules())
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range files {
		testenv.Golden(t, name, string(got))
	}
	shuffled := kernelModules()
	slices.Reverse(shuffled)
	if again, err := IndexFiles(shuffled); err != nil || !reflect.DeepEqual(again, files) {
		t.Errorf("IndexFiles depends on the order of its input (%v)", err)
	}
}

// TestCompressedModules looks compressed modules up, in an index that also has modules that are not compressed.
func TestCompressedModules(t *testing.T) {
	modules := kernelModules()
	for i := range modules {
		if !modules[i].Builtin && modules[i].Name != "jbd2" {
			modules[i].Path += CompressedSuffix
		}
	}
	dir := t.TempDir()
	if err := WriteIndex(dir, modules); err != nil {
		t.Fatal(err)
	}
	x, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	files, err := x.Order("ext4")
	if err != nil || len(files) != 4 {
		t.Fatalf("Order(ext4) = %q, %v", files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".ko") != strings.Contains(file, "jbd2") {
			t.Errorf("Order(ext4) names %s", file)
		}
	}
}

func TestIndexFilesWantsClosedSet(t *testing.T) {
	_, err := IndexFiles([]Module{{Name: "ext4", Path: "kernel/ext4.ko", Depends: []string{"jbd2"}}})
	if err == nil || !strings.Contains(err.Error(), "jbd2") {
		t.Errorf("IndexFiles of an open set: error %v, want jbd2 in it", err)
	}
}

func TestIndexOrder(t *testing.T) {
	x, err := Open(carried(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, want string }{
		{"ext4", "crc32c_generic jbd2 mbcache ext4"},
		{"crc32c-intel", "crc32c_intel"},
		{"virtio", ""},
		{"virtio_net", "virtio_net"},
		{"ipmi_msghandler", "ipmi_msghandler"},
	} {
		files, err := x.Order(c.name)
		var got []string
		for _, f := range files {
			got = append(got, NameOf(f))
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("Order(%q) = %q, %v, want %q", c.name, got, err, c.want)
		}
	}
	for _, absent := range []string{"ext", "ext44", "", "zzz", "kernel/fs/ext4/ext4", "a\nb"} {
		if files, err := x.Order(absent); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Order(%q) = %q, %v, want ErrNotExist", absent, files, err)
		}
	}
	if got := x.Nodes(); !reflect.DeepEqual(got, []Node{{Name: "net/tun", Major: 10, Minor: 200}}) {
		t.Errorf("Nodes = %v", got)
	}
}

func TestOpenFaults(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open without index: %v, want ErrNotExist", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "modules.dep"), []byte("no end of line, no colon"), 0o644); err != nil {
		t.Fatal(err)
	}
	x, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Order("ext4"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Order in a damaged index: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, aliasFile), 0o755); err != nil { // cannot be read
		t.Fatal(err)
	}
	l := &Loader{index: x, tried: map[string]error{}}
	if _, err := x.Match("pci:v1"); err == nil {
		t.Error("aliases that cannot be read are none")
	}
	if _, err := l.Serve("pci:v1"); err == nil || !strings.Contains(err.Error(), aliasFile) {
		t.Errorf("Serve = %v, want %s in it", err, aliasFile)
	}
	if err := l.Request("fs-x"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Request = %v: what cannot be read counts as absent", err)
	}
	if err := os.Remove(filepath.Join(dir, aliasFile)); err != nil {
		t.Fatal(err)
	}
	if got, err := x.Match("pci:v1"); got != nil || err != nil {
		t.Errorf("Match without aliases = %v, %v", got, err)
	}
}

// TestOrderAgreesWithURoot holds our index to u-root's reading of the same files.
func TestOrderAgreesWithURoot(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "lib/modules/6.12")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteIndex(dir, kernelModules()); err != nil {
		t.Fatal(err)
	}
	x, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range kernelModules() {
		if m.Builtin || m.Name == "a" || m.Name == "b" { // it refuses rings of soft dependencies
			continue
		}
		var mu sync.Mutex // guards theirs: it loads what does not depend on each other at once
		var theirs []string
		opts := kmodule.ProbeOpts{RootDir: root, KVer: "6.12", IgnoreProcMods: true, DryRunCB: func(p string) {
			mu.Lock()
			defer mu.Unlock()
			theirs = append(theirs, p)
		}}
		if err := kmodule.ProbeOptions(m.Name, "", opts); err != nil {
			t.Fatalf("u-root probes %s: %v", m.Name, err)
		}
		ours, err := x.Order(m.Name)
		slices.Sort(ours)
		slices.Sort(theirs)
		if err != nil || !slices.Equal(ours, theirs) {
			t.Errorf("Order(%s) = %q, %v, u-root loads %q", m.Name, ours, err, theirs)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"pci:v00008086d00002922sv*sd*bc*sc*i*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", true},
		{"pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", true},
		{"pci:v*d*sv*sd*bc01sc06i02*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", false},
		{"usb:v1234p[0-9A-C]*", "usb:v1234pB1", true},
		{"usb:v1234p[0-9A-C]*", "usb:v1234pD1", false},
		{"usb:v[!0]*", "usb:v1", true},
		{"usb:v[!0]*", "usb:v0", false},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"*", "", true}, {"", "", true}, {"", "x", false},
		{"**", "x", true}, {"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXbYbZ", false}, {"[", "[", true}, {"[a", "a", false},
	} {
		if got := matches([]byte(c.pattern), c.s); got != c.want {
			t.Errorf("matches(%q, %q) = %v, want %v", c.pattern, c.s, got, c.want)
		}
	}
}

// TestMatchFindsWhatAnyOrderFinds compares the walk over sorted lines with looking at every line.
func TestMatchFindsWhatAnyOrderFinds(t *testing.T) {
	letter := rapid.StringMatching(`[abc:0-]{0,6}`)
	pattern := rapid.StringMatching(`[ab:]{0,3}([*?]|\[ab\]|\[!b\])?[abc0-]{0,4}\*?`)
	rapid.Check(t, func(t *rapid.T) {
		var modules []Module
		for i, p := range rapid.SliceOfN(pattern, 0, 80).Draw(t, "patterns") {
			m := Module{Name: fmt.Sprintf("m%d", i), Path: fmt.Sprintf("kernel/m%d.ko", i)}
			if p != "" {
				m.Aliases = []string{Alias(p)}
			}
			modules = append(modules, m)
		}
		modalias := letter.Draw(t, "modalias")
		files, err := IndexFiles(modules)
		if err != nil {
			t.Fatal(err)
		}
		x := &Index{alias: files[aliasFile]}
		got, err := x.Match(modalias)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		var want []string
		for _, m := range modules {
			if len(m.Aliases) == 1 && matches([]byte(m.Aliases[0]), Alias(modalias)) {
				want = append(want, m.Name)
			}
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("Match(%q) = %v, want %v in\n%s", modalias, got, want, x.alias)
		}
	})
}

func TestParseModinfo(t *testing.T) {
	section := "license=GPL\x00\x00\x00alias=fs-ext4\x00alias=of:N*T*Cx,y-z\x00depends=jbd2,crc16,mb-cache\x00" +
		"softdep=pre: crypto-crc32c b post: c\x00" +
		"name=ext4-x\x00firmware=a/b.bin\x00alias=devname:net/tun\x00alias=char-major-10-200\x00alias=has " +
		"space\x00vermagic=6.12 SMP"
	got, err := ParseModinfo([]byte(section))
	want := Module{
		Name: "ext4_x", Depends: []string{"jbd2", "crc16", "mb_cache"}, Pre: []string{"crypto_crc32c", "b"},
		Post:     []string{"c"},
		Aliases:  []string{"fs_ext4", "of:N*T*Cx,y_z", "devname:net/tun", "char_major_10_200"},
		Firmware: []string{"a/b.bin"}, Nodes: []Node{{Name: "net/tun", Major: 10, Minor: 200}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("ParseModinfo = %+v, %v, want %+v", got, err, want)
	}
	if _, err := ParseModinfo([]byte("name=../../x")); err == nil {
		t.Error("ParseModinfo took a path for a name")
	}
	for _, bad := range []string{"alias=devname:../sda\x00alias=char-major-1-1",
		"alias=devname:/x\x00alias=char-major-1-1", "alias=devname:x"} {
		if m, err := ParseModinfo([]byte(bad)); err != nil || len(m.Nodes) != 0 {
			t.Errorf("ParseModinfo(%q) = nodes %v, %v, want none", bad, m.Nodes, err)
		}
	}
}

// script is a kernel that refuses some modules.
type script struct {
	refuse map[string]error
	calls  []string
}

func (s *script) load(file, params string) error {
	s.calls = append(s.calls, strings.TrimSuffix(NameOf(file)+" "+params, " "))
	return s.refuse[NameOf(file)]
}

func scripted(t *testing.T, refuse map[string]error) (*Loader, *script) {
	t.Helper()
	x, err := Open(carried(t))
	if err != nil {
		t.Fatal(err)
	}
	l, s := NewLoader(x), &script{refuse: refuse}
	l.load = s.load
	return l, s
}

func TestLoad(t *testing.T) {
	l, s := scripted(t, nil)
	for _, name := range []string{"ext4", "nf-tables", "ext4", "virtio", "ipmi_msghandler"} {
		if err := l.Load(name, "x=1"); err != nil {
			t.Errorf("Load(%s): %v", name, err)
		}
	}
	want := "crc32c_generic,jbd2,mbcache,ext4 x=1,libcrc32c,nfnetlink,nf_tables x=1,ipmi_msghandler x=1,ipmi_devintf"
	if got := strings.Join(s.calls, ","); got != want {
		t.Errorf("loaded %s, want %s", got, want)
	}
}

// A module that would create a link by itself does not, unless somebody asks for that.
func TestUsualParameters(t *testing.T) {
	for _, c := range [][3]string{
		{"bonding", "", "max_bonds=0"}, {"dummy", "numdummies=2", "numdummies=0 numdummies=2"}, {"ext4", "", ""},
	} {
		if got := withUsual(c[0], c[1]); got != c[2] {
			t.Errorf("withUsual(%s, %s) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestLoadFaults(t *testing.T) {
	soft, _ := scripted(t, map[string]error{"crc32c_generic": unix.ENODEV})
	if err := soft.Load("ext4", ""); err != nil {
		t.Errorf("a soft dependency that fails: %v, want none", err)
	}
	l, s := scripted(t, map[string]error{"jbd2": errors.New("bad file"), "ext4": unix.ENOENT})
	err := l.Load("ext4", "")
	if err == nil || !strings.Contains(err.Error(), "load module ext4: ") ||
		!strings.Contains(err.Error(), "bad file") || !errors.Is(err, unix.ENOENT) {
		t.Errorf("Load with a broken dependency: %v, want both reasons", err)
	}
	s.refuse = nil
	if err := l.Load("ext4", ""); err != nil {
		t.Errorf("Load again after the reason is gone: %v", err)
	}
	if err := l.Load("absent", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load(absent): %v", err)
	}
}

func TestServe(t *testing.T) {
	l, s := scripted(t, map[string]error{"virtio_net": unix.ENODEV})
	for range 3 {
		_, _ = l.Serve("virtio:d00000001v00001AF4")
	}
	if got := strings.Join(s.calls, ","); got != "virtio_net" {
		t.Errorf("three devices that no module takes: tried %s, want one try", got)
	}
	l, _ = scripted(t, nil)
	first, err1 := l.Serve("virtio:d00000001v00001AF4")
	second, err2 := l.Serve("virtio:d00000001v00001AF4")
	if err1 != nil || err2 != nil || !slices.Equal(first, []string{"virtio_net"}) || second != nil {
		t.Errorf("Serve = %v, %v, then %v, %v", first, err1, second, err2)
	}
}

func TestRequest(t *testing.T) {
	l, s := scripted(t, nil)
	if err := errors.Join(l.Request("fs-ext4"), l.Request("tun")); err != nil {
		t.Error(err)
	}
	if got := strings.Join(s.calls, ","); got != "crc32c_generic,jbd2,mbcache,ext4,tun" {
		t.Errorf("loaded %s", got)
	}
	if err := l.Request("fs-nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Request of what nobody serves: %v", err)
	}
}

func TestLoadFileFaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.ko")
	if err := loadFile(file, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("loadFile of a missing file: %v", err)
	}
	if err := os.WriteFile(file, []byte("garbage"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := loadFile(file, ""); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("loadFile of garbage: %v, want the file named", err)
	}
}

// TestMatchMany: some 5,000 aliases, as a board carries them, and 200 devices. It is on the boot path: a figure of the
// bench, too.
func TestMatchMany(t *testing.T) {
	var modules []Module
	for i := range 100 {
		m := Module{Name: fmt.Sprintf("m%03d", i), Path: fmt.Sprintf("kernel/m%03d.ko", i)}
		for j := range 50 {
			m.Aliases = append(m.Aliases, fmt.Sprintf("usb:v%04Xp%04Xd*dc*dsc*dp*ic*isc*ip*in*", i*31, j))
		}
		modules = append(modules, m)
	}
	files, err := IndexFiles(modules)
	if err != nil {
		t.Fatal(err)
	}
	x := &Index{alias: files[aliasFile]}
	start := time.Now()
	for i := range 200 {
		modalias := fmt.Sprintf("usb:v%04Xp%04Xd0001dc00dsc00dp00ic08isc06ip50in00", i%100*31, i%50)
		if got, err := x.Match(modalias); len(got) != 1 || err != nil {
			t.Fatalf("Match(%s) = %v", modalias, got)
		}
	}
	testenv.AtMost(t, "200 devices", time.Since(start), 20*time.Millisecond)
}

func FuzzParseModinfo(f *testing.F) {
	f.Add([]byte("name=x\x00depends=a,b\x00softdep=pre: a post: " +
		"b\x00alias=pci:v*d*\x00alias=devname:a\x00alias=char-major-1-2"))
	f.Add([]byte("softdep=pre:\x00softdep=a b\x00alias=[-]-[\x00="))
	f.Fuzz(func(t *testing.T, section []byte) {
		m, err := ParseModinfo(section)
		if err != nil || m.Name == "" {
			return
		}
		m.Path, m.Depends = "kernel/"+m.Name+".ko", nil
		if _, err := IndexFiles([]Module{m}); err != nil {
			t.Errorf("IndexFiles(%+v): %v", m, err)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add("kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n", "alias pci:v*d* a\nalias usb:* b\n", "pci:v1d2")
	f.Add("\n\n:::\n", "alias\n\nalias  x\n", "*")
	f.Fuzz(func(t *testing.T, dep, alias, name string) {
		x := &Index{dep: []byte(dep), alias: []byte(alias), softdep: []byte(dep), devname: []byte(alias),
			builtin: []byte(dep)}
		_, _ = x.Order(name) // must end, without a panic
		_, _ = x.Match(name)
		x.Nodes()
		x.after(name)
	})
}

// TestLoadedByTheInitramfs: a module that runs and has no file in the root is no fault.
func TestLoadedByTheInitramfs(t *testing.T) {
	all, err := os.ReadDir("/sys/module")
	if err != nil || len(all) == 0 {
		testenv.Lacking(t, "modules in /sys/module: %v", err)
	}
	file := filepath.Join(t.TempDir(), strings.ReplaceAll(all[0].Name(), "_", "-")+".ko.xz")
	if err := loadFile(file, ""); err != nil {
		t.Errorf("module %s runs: %v", all[0].Name(), err)
	}
}

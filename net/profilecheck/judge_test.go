package profilecheck

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/txtar"

	"resinos/mounts/testenv"
)

// verdict is what NetworkManager's library says about a file.
type verdict struct {
	Error    string
	Warnings []string
	Normal   string
}

// judge asks NetworkManager's library about files, all in one process.
func judge(t testing.TB, files [][2]string) []verdict {
	t.Helper()
	const python = "/usr/bin/python3" // Debian's own, for which the library's binding is installed
	if err := exec.Command(python, "-c", "import gi; gi.require_version('NM', '1.0')").Run(); err != nil {
		testenv.Lacking(t, "NetworkManager's library: apt-get install python3-gi gir1.2-nm-1.0")
	}
	input, err := json.Marshal(files)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "testdata/judge.py")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), os.Stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	output, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var verdicts []verdict
	if err := json.Unmarshal(output, &verdicts); err != nil {
		t.Fatal(err)
	}
	return verdicts
}

// archived returns the files of an archive below testdata: name and text.
func archived(t testing.TB, name string) (files [][2]string) {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		files = append(files, [2]string{f.Name, string(f.Data)})
	}
	return files
}

// Every file is accepted here and by NetworkManager, and means the same: what NetworkManager writes after it has read
// our own writing is what it writes after it has read the file; and its writing is read here as the same profile.
func TestAcceptedByNetworkManager(t *testing.T) {
	files := archived(t, "accepted.txtar")
	var ours [][2]string
	for i, v := range judge(t, files) {
		name := files[i][0]
		p, _, err := Read(name, []byte(files[i][1]))
		if err != nil || v.Error != "" {
			t.Errorf("%s: ours: %v; NetworkManager: %s", name, err, v.Error)
			ours = append(ours, [2]string{name, ""})
			continue
		}
		ours = append(ours, [2]string{name, p.File().String()})
		again, _, err := Read(name, []byte(v.Normal))
		if err != nil {
			t.Errorf("%s: NetworkManager's own writing is refused: %v\n%s", name, err, v.Normal)
			continue
		}
		if p.Connection.UUID == "" {
			again.Connection.UUID = ""
		}
		if !reflect.DeepEqual(p, again) {
			t.Errorf("%s: the file, and NetworkManager's writing, are read as\n%s", name,
				diff.Diff("file", []byte(p.File().String()), "NetworkManager's", []byte(again.File().String())))
		}
	}
	want := judge(t, files)
	for i, v := range judge(t, ours) {
		if want[i].Error == "" && v.Normal != want[i].Normal {
			t.Errorf("%s: what NetworkManager reads of the file, and of our writing: %s\n%s", files[i][0], v.Error,
				diff.Diff("file", []byte(want[i].Normal), "ours", []byte(v.Normal)))
		}
	}
}

// Every file is refused as a whole, here and by NetworkManager.
func TestRefusedByNetworkManager(t *testing.T) {
	files := archived(t, "refused.txtar")
	for i, v := range judge(t, files) {
		if _, _, err := Read(files[i][0], []byte(files[i][1])); err == nil || v.Error == "" {
			t.Errorf("%s: ours: %v; NetworkManager: %q\n%s", files[i][0], err, v.Error, v.Normal)
		}
	}
}

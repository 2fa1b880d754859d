// Package fingerprint owns the fingerprint of a file system, a list of the MD5 sums of its files: its format, the files
// that it leaves out, and the comparison with the files that are there. It finds damage, not attacks: whoever can
// change a file can change the list.
//
// It never changes anything, and of a file that is not listed it reads only the name. Read Place first, then Check.
package fingerprint

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Name is the name of the list at the top of a file system.
const Name = "resinos.fingerprint"

// maxSize is far larger than any list: a line has about 80 bytes.
const maxSize = 8 << 20

// A Place is a file system with a list.
type Place struct {
	Name   string // the owner's name for it: boot, root
	Target string // where it is attached
	// patterns (path.Match) of paths that change during the life of a device; one that ends in / is a directory with
	// everything below it
	Changes []string
	Shared  bool // the owner may add files: files that are not listed are no fault
}

// Places lists the places. On the boot partition the list leaves out what the owner edits, the copies of these files,
// and what bootloaders and fsck.fat write.
func Places() []Place {
	return []Place{
		{Name: "root", Target: "/", Changes: []string{Name}},
		{Name: "boot", Target: "/mnt/boot", Shared: true, Changes: []string{
			Name, "config.json*", "system-connections/", "splash/", "grubenv", "resinos.env", "ubootefi.var",
			"FSCK*.REC", "fsck*.rec", "*.new",
		}},
	}
}

// Find returns the place with a name.
func Find(name string) (Place, bool) {
	for _, p := range Places() {
		if p.Name == name {
			return p, true
		}
	}
	return Place{}, false
}

// Leaves reports whether the list leaves a path out. The path has no leading slash.
func (p Place) Leaves(name string) bool {
	return slices.ContainsFunc(p.Changes, func(pattern string) bool {
		if strings.HasSuffix(pattern, "/") {
			return strings.HasPrefix(name, pattern)
		}
		match, err := path.Match(pattern, name)
		return err == nil && match
	})
}

// Sum is the MD5 sum of a file's content.
type Sum [md5.Size]byte

// Of reads r to its end and returns the sum.
func Of(r io.Reader) (Sum, error) {
	h := md5.New()
	if _, err := io.Copy(h, r); err != nil {
		return Sum{}, err
	}
	return Sum(h.Sum(nil)), nil
}

// A Line is one line of a list. Path has no leading slash.
type Line struct {
	Path string
	Sum  Sum
}

// Print returns a list in the format of the reference system, which is that of md5sum(1), sorted by path:
//
//	SUM in 32 hex digits, two blanks, /PATH
func Print(lines []Line) []byte {
	lines = slices.Clone(lines)
	slices.SortFunc(lines, func(a, b Line) int { return strings.Compare(a.Path, b.Path) })
	var b bytes.Buffer
	for _, l := range lines {
		fmt.Fprintf(&b, "%x  /%s\n", l.Sum, l.Path)
	}
	return b.Bytes()
}

// Parse reads a list. Paths may lack their leading slash, as later releases of the reference system write them. It
// reports all faults, by line.
func Parse(text []byte) ([]Line, error) {
	var lines []Line
	var faults []error
	seen := map[string]bool{}
	number := 0
	for text := range strings.Lines(string(text)) {
		number++
		sum, name, two := strings.Cut(strings.TrimSuffix(text, "\n"), "  ")
		l := Line{Path: strings.TrimPrefix(name, "/")}
		n, err := hex.Decode(l.Sum[:], []byte(sum)[:min(len(sum), 2*len(l.Sum))])
		switch {
		case !two || err != nil || n != len(l.Sum) || len(sum) != 2*len(l.Sum):
			faults = append(faults, fmt.Errorf("line %d: want 32 hex digits, two blanks, a path", number))
		case !fs.ValidPath(l.Path) || l.Path == ".":
			faults = append(faults, fmt.Errorf("line %d: %q is not the path of a file", number, name))
		case seen[l.Path]:
			faults = append(faults, fmt.Errorf("line %d: %s is listed twice", number, l.Path))
		default:
			seen[l.Path] = true
			lines = append(lines, l)
		}
		if len(faults) == 20 {
			return nil, fmt.Errorf("%w; and more", errors.Join(faults...))
		}
	}
	if len(lines) == 0 && len(faults) == 0 {
		return nil, errors.New("it lists no file")
	}
	return lines, errors.Join(faults...)
}

// A Report is the result of comparing a place with its list. Paths have no leading slash and are sorted.
type Report struct {
	Place     string   `json:"place"`
	Files     int      `json:"files"`     // files compared
	Bytes     int64    `json:"bytes"`     // their total size
	Different []string `json:"different"` // files whose content differs or cannot be read
	Missing   []string `json:"missing"`
	Extra     []string `json:"extra"` // files that are not listed
}

// Good reports whether the place has no fault.
func (r Report) Good(p Place) bool {
	return len(r.Different)+len(r.Missing) == 0 && (p.Shared || len(r.Extra) == 0)
}

// Check compares a place with its list. root is its file system, without what is mounted above it. progress, which may
// be nil, is called with the number of files done. The error reports a list that cannot be used, or that ctx is done; a
// file that cannot be read counts as different.
func Check(ctx context.Context, p Place, root fs.FS, progress func(done, total int)) (Report, error) {
	r := Report{Place: p.Name, Different: []string{}, Missing: []string{}, Extra: []string{}}
	text, err := readList(root)
	if err != nil {
		return r, fmt.Errorf("read fingerprint of %s: %w", p.Name, err)
	}
	lines, err := Parse(text)
	if err != nil {
		return r, fmt.Errorf("read fingerprint of %s: %w", p.Name, err)
	}
	listed := map[string]bool{}
	for i, l := range lines {
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		listed[l.Path] = true
		r.compare(root, l)
		if progress != nil {
			progress(i+1, len(lines))
		}
	}
	r.Extra = append(r.Extra, extra(p, root, listed)...)
	return r, nil
}

func readList(root fs.FS) ([]byte, error) {
	f, err := root.Open(Name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // nothing was written
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(text) > maxSize {
		err = fmt.Errorf("%s: longer than %d bytes", Name, maxSize)
	}
	return text, err
}

func (r *Report) compare(root fs.FS, l Line) {
	info, err := fs.Lstat(root, l.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.Missing = append(r.Missing, l.Path)
		return
	case err != nil || !info.Mode().IsRegular():
		r.Different = append(r.Different, l.Path)
		return
	}
	f, err := root.Open(l.Path)
	if err != nil {
		r.Different = append(r.Different, l.Path)
		return
	}
	defer f.Close() // nothing was written
	sum, err := Of(f)
	if err != nil || sum != l.Sum {
		r.Different = append(r.Different, l.Path)
		return
	}
	r.Files++
	r.Bytes += info.Size()
}

// extra lists the regular files that are neither listed nor left out.
func extra(p Place, root fs.FS, listed map[string]bool) (names []string) {
	_ = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a directory that cannot be read has no files to list
		}
		if d.Type().IsRegular() && !listed[name] && !p.Leaves(name) {
			names = append(names, name)
		}
		return nil
	}) // the function returns no error
	return names
}

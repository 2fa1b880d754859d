package judge

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"resinos/bsp/bootvars"
	"resinos/images/assemble"
	"resinos/images/layout"
	"resinos/images/powercut/recording"
	"resinos/mounts/fat"
	"resinos/mounts/persist"
	"resinos/services/config"
)

// DeviceSuite is what a resinOS disk must be after any cut, as long as nobody installs an update: the slots are
// untouched, the table and the file systems are whole, the bootloader finds its slot, config.json can be read, and what
// makes the device the one it is stays.
func DeviceSuite(r *recording.Recording) (Suite, error) {
	plan, err := assemble.ReadTable(r.Image)
	if err != nil {
		return Suite{}, err
	}
	table := Table{UUIDs: map[int]string{}}
	s := Suite{Stable: []string{recording.FactMachineID, recording.FactHostKey, recording.FactUUID},
		Rules: []Rule{fits(layout.State), fits(layout.Data)}}
	for _, p := range plan.Partitions {
		table.UUIDs[p.Number] = p.GUID
	}
	s.Judges = append(s.Judges, table)
	regions, err := Regions(r.Image, r.Size)
	if err != nil {
		return s, err
	}
	for _, region := range regions {
		switch region.Name {
		case layout.RootA, layout.RootB:
			digest, err := digestPart(r.Image, region.Base, region.Size)
			if err != nil {
				return s, err
			}
			s.Judges = append(s.Judges, Untouched{region.Name, digest})
		case layout.Boot:
			s.Judges = append(s.Judges, FAT{Partition: region.Name, Mends: r.MendsFAT, Read: bootFiles})
		case layout.State:
			s.Judges = append(s.Judges, Ext4{region.Name, stateFiles(), stateTexts(),
				[]Reader{size(region.Name), ownersFiles}})
		case layout.Data:
			s.Judges = append(s.Judges, Ext4{Partition: region.Name, Read: []Reader{size(region.Name)}})
		}
	}
	return s, nil
}

// overlay is where a persistent path lies on the state partition.
func overlay(path string) string { return "/" + persist.Overlay + path }

func stateFiles() map[string]string {
	return map[string]string{
		recording.FactHostKey: overlay("/etc/ssh/hostkeys/ssh_host_ed25519_key"),
		recording.FactKeyfile: overlay("/etc/NetworkManager/system-connections/office"),
	}
}

func stateTexts() map[string]string {
	return map[string]string{recording.FactMachineID: overlay("/etc/machine-id")}
}

// ownersFiles reads how a purge stands. While the flag is gone the next boot purges, whatever is left; once it is
// there, the content is taken for good, and may not be half of what it was.
func ownersFiles(ctx context.Context, file string) (Verdict, error) {
	found, err := readExt4(ctx, file,
		map[string]string{"flag": recording.FlagFile, "armed": recording.ArmedFile, "one": overlay(recording.OwnersOne),
			"two": overlay(recording.OwnersTwo)})
	if err != nil {
		return Verdict{}, err
	}
	has := func(name string) bool { _, there := found[name]; return there }
	state := recording.OwnersHalf
	switch {
	case has("armed") && !has("flag"):
		state = recording.Purging
	case has("one") && has("two"):
		state = recording.OwnersBoth
	case !has("one") && !has("two"):
		state = recording.OwnersNone
	}
	return Verdict{Facts: map[string]string{recording.FactOwners: state}}, nil
}

// factFileSystem is the fact of the bytes that an ext4 claims.
func factFileSystem(label string) string { return "file system " + label }

// fits is the rule that a file system lies within its partition: the kernel does not mount one that is larger.
func fits(label string) Rule {
	return func(facts map[string]string) string {
		part, first := strconv.ParseInt(facts[FactTable(label)], 10, 64)
		fs, second := strconv.ParseInt(facts[factFileSystem(label)], 10, 64)
		if first != nil || second != nil || fs <= part {
			return ""
		}
		return fmt.Sprintf("file system %s has %d bytes, its partition %d", label, fs, part)
	}
}

// bootFiles looks into the boot partition.
func bootFiles(files *fat.FileSystem) (Verdict, error) {
	v := bootVariables(files).Add(configJSON(files))
	if note, err := files.Read(recording.NoteFile); err == nil {
		v.Facts[recording.FactNote] = recording.Digest(note)
	} else if !errors.Is(err, fs.ErrNotExist) {
		v.Facts[recording.FactNote] = err.Error()
	}
	return v.Add(fingerprinted(files)), nil
}

// bootVariables judges the block that the bootloader reads: one of them is there, and names a slot.
func bootVariables(files *fat.FileSystem) Verdict {
	for _, loader := range bootvars.Bootloaders() {
		file, err := files.Read("/" + loader.File())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			_, err = loader.Parse(file)
		}
		if err != nil {
			return Verdict{Bad: fmt.Sprintf("boot variables %s: %v", loader.File(), err)}
		}
		return Verdict{}
	}
	return Verdict{Bad: "boot variables are missing"}
}

// configJSON reads config.json as the device does: the file if it can be parsed, else its last good copy. Its class
// tells which.
func configJSON(files *fat.FileSystem) Verdict {
	v := Verdict{Class: "config.json", Facts: map[string]string{}}
	keys, err := configFile(files)
	if err != nil {
		v.Class = "last good copy of config.json"
		var second error
		if keys, second = configCopy(files); second != nil {
			return Verdict{Class: "no config.json",
				Bad: fmt.Sprintf("config.json cannot be read: %v; its copy: %v", err, second)}
		}
	}
	for fact, key := range map[string]string{recording.FactHostname: config.Hostname, recording.FactUUID: config.UUID} {
		if value, ok := keys[key].(string); ok {
			v.Facts[fact] = value
		}
	}
	return v
}

func configFile(files *fat.FileSystem) (keys map[string]any, err error) {
	text, err := files.Read("/config.json")
	if err != nil {
		return nil, err
	}
	return keys, json.Unmarshal(text, &keys)
}

// configCopy reads the last good copy. Its first line is "resinos config 1 " and the SHA-256 of the rest in hex.
func configCopy(files *fat.FileSystem) (keys map[string]any, err error) {
	text, err := files.Read("/config.json.good")
	if err != nil {
		return nil, err
	}
	head, body, _ := bytes.Cut(text, []byte("\n"))
	if string(head) != fmt.Sprintf("resinos config 1 %x", sha256.Sum256(body)) {
		return nil, errors.New("its sum is wrong")
	}
	return keys, json.Unmarshal(body, &keys)
}

// fingerprinted compares the files that nobody changes with their sums.
func fingerprinted(files *fat.FileSystem) Verdict {
	sums, err := files.Read("/resinos.fingerprint")
	if err != nil {
		return Verdict{Bad: fmt.Sprintf("resinos.fingerprint cannot be read: %v", err)}
	}
	var wrong []string
	for line := range strings.Lines(string(sums)) {
		want, name, _ := strings.Cut(strings.TrimRight(line, "\n"), "  ")
		content, err := files.Read(name)
		if err != nil || recording.Digest(content) != want {
			wrong = append(wrong, name)
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return Verdict{Bad: "files of the bootloader are lost or others: " + shorten(strings.Join(wrong, ", "))}
	}
	return Verdict{}
}

func digestFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close() // read only: closing cannot lose anything
	h := md5.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func digestPart(name string, start, size int64) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close() // read only: closing cannot lose anything
	h := md5.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, start, size)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

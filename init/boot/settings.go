package boot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/init/identity"
	"resinos/mounts/plainfile"
	"resinos/net/keyimport"
	"resinos/services/boottime"
	"resinos/services/config"
	"resinos/services/rootca"
	"resinos/services/settings"
)

// machineStandIn is the file that is shown as the machine id if resin-state cannot keep one.
const machineStandIn = runtimeDir + "/machine-id"

// readConfig reads the settings in force from config.json or its last good copy. A device without either has defaults.
func (s *System) readConfig() error {
	s.Loaded = config.Load(config.Path)
	s.Config = config.InForce(s.Loaded, "")
	if s.Loaded.Fault != nil {
		return s.Loaded.Fault
	}
	var faults []error
	for key, fault := range s.Config.Faults {
		faults = append(faults, fmt.Errorf("key %s: %s", key, fault))
	}
	if len(faults) > 0 {
		return fmt.Errorf("read config %s: %w", config.Path, errors.Join(faults...))
	}
	return nil
}

// importKeyFiles copies the key files and hooks that an owner put on resin-boot. netd reads the copies; configd copies
// later changes.
func (s *System) importKeyFiles() error {
	var faults []error
	for _, k := range keyimport.All() {
		_, err := keyimport.Import(k, keyimport.Unflushed)
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// identity creates the device's UUID and machine id on its first boot. A UUID that is derived from the machine id is
// written to config.json by configd, after the boot.
func (s *System) identity() error {
	text, err := plainfile.Read(MachineID, maxMachineID)
	if err != nil {
		text = nil // then there is none
	}
	known := s.Config.Text(config.UUID)
	if known == "" {
		known = config.Identity(config.Path, s.Loaded)
	}
	d := identity.Device{
		Known: known, Kept: string(text), Lasts: err == nil && lasts(MachineID),
		SaveMachine: func(id string) error { return rewrite(MachineID, id+"\n") },
		SaveUUID:    saveUUID,
		StandIn:     showMachineID,
		Random:      random,
	}
	id, fault := d.Settle()
	if s.Config.Text(config.UUID) == "" {
		s.Config = config.InForce(s.Loaded, id.UUID)
	}
	return fault
}

// lasts reports whether a file is on a disk that can be written.
func lasts(path string) bool {
	var where unix.Statfs_t
	err := unix.Statfs(path, &where)
	return err == nil && where.Type != unix.TMPFS_MAGIC && where.Flags&unix.ST_RDONLY == 0
}

// random returns 128 random bits in hex. It reads the kernel's file with a random UUID, which never blocks, while
// getrandom would delay the boot until the pool is full. A UUID has 122 random bits, so two are combined.
func random() (string, error) {
	h := sha256.New()
	for range 2 {
		text, err := os.ReadFile("/proc/sys/kernel/random/uuid")
		if err != nil {
			return "", err
		}
		h.Write(text)
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

func saveUUID(id string) error {
	store := config.Store{Path: config.Path}
	if !store.Lasts() {
		return errors.New("resin-boot cannot be written")
	}
	return store.Update(func(d config.Document) (config.Document, error) {
		return d.With(config.UUID, json.RawMessage(`"`+id+`"`))
	})
}

// showMachineID binds a machine id in RAM over the file of the one that is kept.
func showMachineID(id string) error {
	if err := os.WriteFile(machineStandIn, []byte(id+"\n"), 0o444); err != nil {
		return fmt.Errorf("show machine id: %w", err)
	}
	if err := unix.Mount(machineStandIn, MachineID, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show machine id: %w", err)
	}
	return nil
}

// hostnameDeeds set the host name, and publish the settings in force for the daemons that start later.
func hostnameDeeds(in Inputs) []deed {
	name := config.DeviceName(in.Config)
	list := []deed{
		{[]string{"host name " + name + ", also in " + hostnameFile}, func(s *System) error {
			s.named = SetHostname(name)
			return s.named
		}},
		{[]string{"publish what is in force in " + settings.Path}, func(*System) error {
			_, err := settings.Publish(settings.Path, in.Config)
			return err
		}},
		{[]string{"record beside it what came of host name and uuid"}, func(s *System) error {
			return settings.Take(settings.Path, "init", in.Config, []string{config.Hostname, config.UUID},
				boottime.Now(), s.named)
		}},
	}
	if ca := in.Config.Text(config.RootCA); ca != "" {
		list = append(list, deed{[]string{"add the owner's certificates to the system's in " + rootca.Bundle},
			func(*System) error { return SetRootCA(ca) }})
	}
	return list
}

// SetRootCA writes the owner's certificates, which are those of balenaRootCA. An empty value removes them.
func SetRootCA(value string) error {
	certificates, err := rootca.Parse(value)
	if err != nil {
		return err
	}
	return rootca.Apply("/", certificates)
}

// SetHostname sets the host name of the device and writes it to /etc/hostname. It does not wait for the disk, because
// the next boot derives the name again.
func SetHostname(name string) error {
	if have, err := os.Hostname(); err != nil || have != name {
		if err := unix.Sethostname([]byte(name)); err != nil {
			return fmt.Errorf("set host name: %w", err)
		}
	}
	if text, err := plainfile.Read(hostnameFile, maxHostname); err == nil && strings.TrimSpace(string(text)) == name {
		return nil
	}
	return plainfile.Rewrite(hostnameFile, name+"\n", false)
}

// rewrite replaces the content of a file in place and waits for the disk. The files it is for are bind mounts, which
// cannot be replaced by rename: one block is written at once, and the length shows an incomplete write after a power
// cut.
func rewrite(path, content string) error { return plainfile.Rewrite(path, content, true) }

// The limits on the size of these files, above any real content: somebody may have put something else there.
const (
	maxMachineID = 4 << 10
	maxHostname  = 4 << 10
)

func identityDeeds(Inputs) []deed {
	return []deed{{[]string{
		"write " + MachineID + " unless it holds one",
		"uuid of " + config.Path + ", else of its last good copy, else derived from the machine id",
		"if resin-state keeps nothing: the machine id is derived from the uuid",
	}, (*System).identity}}
}

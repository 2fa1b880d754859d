// Package config owns config.json on the boot partition: its keys, the values that are used for missing or wrong ones,
// and changing the file without ever losing it.
//
// It never overwrites a file that cannot be parsed and never drops a key that it does not know. Reading never fails,
// because a device must boot whatever a person or a power cut left in the file. Read Keys first, then Load.
package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"resinos/services/settings"
)

// Effective returns the settings in force for a document: values, defaults and faults, key by key. A bad value affects
// only its own key.
func Effective(d Document, source settings.From) settings.Settings {
	return effective(d, source, Document{})
}

// effective is Effective with the last good copy: its value is used where a value of d cannot be used.
func effective(d Document, source settings.From, good Document) settings.Settings {
	s := settings.Settings{Source: source, Values: map[string]settings.Value{}}
	fault := func(key, text string) {
		if s.Faults == nil { // JSON leaves an empty one out
			s.Faults = map[string]string{}
		}
		s.Faults[key] = text
	}
	keys := Keys()
	for _, k := range keys {
		value, from, err := k.effective(d, source, good)
		if err != nil {
			fault(k.Name, err.Error())
		}
		if value != nil {
			s.Values[k.Name] = settings.Value{JSON: value, From: from}
		}
	}
	for _, key := range d.twice() {
		fault(key, strings.TrimPrefix(s.Faults[key]+"; written twice, the last one counts", "; "))
	}
	d.leaves(func(leaf string, _ json.RawMessage) {
		if !slices.ContainsFunc(keys, func(k Key) bool { return k.covers(leaf) || within(k.Name, leaf) }) &&
			!slices.Contains(s.Unknown, leaf) {
			s.Unknown = append(s.Unknown, leaf)
		}
	})
	if len(s.Faults) == 0 {
		s.Faults = nil // as it would be read back
	}
	return s
}

func (k Key) effective(d Document, source settings.From, good Document) (json.RawMessage, settings.From, error) {
	value, err := k.usable(d)
	if value != nil {
		return value, source, err
	}
	if err != nil {
		if value, _ := k.usable(good); value != nil {
			return value, settings.LastGood, fmt.Errorf("%w; the last good value stays in force", err)
		}
	}
	if k.Default != "" {
		return json.RawMessage(k.Default), settings.Default, err
	}
	return nil, settings.Default, err
}

// usable returns the part of the key's value in a document that can be used, or nil. With nil, the error says why,
// unless the document has no value for the key.
func (k Key) usable(d Document) (json.RawMessage, error) {
	raw, written := d.Get(k.Name)
	if !written {
		if parent := d.inTheWay(k.Name); parent != "" {
			return nil, fmt.Errorf("%s is no object", parent)
		}
		return nil, nil
	}
	value, err := k.judge(raw)
	if value == nil {
		return nil, err
	}
	text, marshal := json.Marshal(value)
	if marshal != nil {
		return nil, marshal
	}
	return text, err
}

// judge returns the part of a written value that can be used, or nil.
func (k Key) judge(raw json.RawMessage) (any, error) {
	value, set, err := k.Kind.read(raw)
	if err != nil || !set {
		return nil, err
	}
	if k.fit == nil {
		return value, nil
	}
	return k.fit(value)
}

// Check checks a value before it is written. The error says what is wrong with it.
func Check(key string, raw json.RawMessage) error {
	k, known := Find(key)
	if !known {
		return nil
	}
	if _, err := k.judge(raw); err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	return nil
}

// Encode converts what a person types for a key into JSON: for a known key by its kind, for another one as JSON if it
// is valid JSON, else as text.
func Encode(key, typed string) json.RawMessage {
	k, _ := Find(key)
	raw := json.RawMessage(typed)
	switch k.Kind {
	case Text, Words: // a host name may be 007, a password true
		return json.RawMessage(quote(typed))
	case Flag:
		if v, err := readFlag(json.RawMessage(quote(typed))); err == nil {
			return fmt.Appendf(nil, "%v", v)
		}
	case Number:
		if v, err := readNumber(json.RawMessage(quote(typed))); err == nil {
			return fmt.Appendf(nil, "%d", v)
		}
	case Lines:
		if !strings.HasPrefix(typed, "[") {
			return json.RawMessage("[" + quote(typed) + "]")
		}
	}
	if json.Valid(raw) {
		return raw
	}
	return json.RawMessage(quote(typed))
}

// Facts returns the values that conditions of services are compared with: every string, number and boolean of the
// document as text, by its key with dots; and each list of a known key that is not empty, one entry on each line.
func (d Document) Facts() map[string]string {
	all := map[string]string{}
	d.leaves(func(key string, raw json.RawMessage) {
		if s, err := readText(raw); err == nil && string(raw) != "null" {
			all[key] = s
		} else if t := string(raw); t == "true" || t == "false" {
			all[key] = t
		}
	})
	for _, k := range Keys() {
		raw, written := d.Get(k.Name)
		if !written || k.Kind != Words && k.Kind != Lines {
			continue
		}
		value, _ := k.judge(raw) // whoever uses the value reports what is wrong with it
		if list, _ := value.([]string); len(list) > 0 {
			all[k.Name] = strings.Join(list, "\n")
		} else {
			delete(all, k.Name)
		}
	}
	return all
}

// DeviceName returns the name of a device: the configured one, else the first seven digits of its UUID, else resinos.
func DeviceName(s settings.Settings) string {
	if name := s.Text(Hostname); name != "" {
		return name
	}
	if id := s.Text(UUID); len(id) >= 7 {
		return id[:7]
	}
	return "resinos"
}

// InForce is Effective for a device: the values that the device created itself are used where the document has none.
// identity is its UUID, empty if it has none yet.
func InForce(l Loaded, identity string) settings.Settings {
	s := effective(l.Document, l.Source, l.Good)
	if l.Fault != nil {
		s.Fault = l.Fault.Error()
	}
	if v := s.Values[DevelopmentMode]; v.From == settings.Default {
		s.Values[DevelopmentMode] = settings.Value{JSON: fmt.Appendf(nil, "%t", l.open()), From: settings.Default}
	}
	if _, said := s.Values[UUID]; !said && identity != "" {
		s.Values[UUID] = settings.Value{JSON: json.RawMessage(quote(identity)), From: settings.Generated}
	}
	if _, said := s.Values[Hostname]; !said {
		s.Values[Hostname] = settings.Value{JSON: json.RawMessage(quote(DeviceName(s))), From: settings.Generated}
	}
	return s
}

// open reports whether a device is open for development of which nobody has said it: only images that are for this.
func (l Loaded) open() bool { return l.Variant == "development" || l.Variant == "standalone" }

// Facts are those of the usable document (Document.Facts), and always one of the development mode.
func (l Loaded) Facts() map[string]string {
	all := l.Usable().Facts()
	all[DevelopmentMode] = strconv.FormatBool(InForce(l, "").Flag(DevelopmentMode))
	return all
}

// Usable returns the document in which the last good value replaces each value that cannot be used; if there is none,
// the key is left out. This is the content of a last good copy, which therefore never contains anything else.
func (l Loaded) Usable() Document {
	d := l.Document
	for _, k := range Keys() {
		value, err := k.usable(l.Document)
		if err == nil || value != nil {
			continue
		}
		key := k.Name
		if parent := d.inTheWay(key); parent != "" {
			key = parent
		}
		next, err := d.Without(key)
		if old, _ := k.usable(l.Good); err == nil && old != nil {
			raw, _ := l.Good.Get(k.Name)
			next, err = next.With(k.Name, raw)
		}
		if err == nil { // otherwise the document would be too long: the reader judges the value again
			d = next
		}
	}
	return d
}

// Identity returns the UUID that a device was given: that of what was loaded from path, else that of the last good
// copy. A file that was replaced by one without a UUID therefore does not change the device's identity. It is empty if
// there is neither.
func Identity(path string, l Loaded) string {
	if id := Effective(l.Document, l.Source).Text(UUID); id != "" || l.Source != settings.File {
		return id
	}
	good, err := Good(path)
	if err != nil {
		return ""
	}
	return Effective(good, settings.LastGood).Text(UUID)
}

package profile

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"resinos/net/keyfile"
	"resinos/net/keyvalue"
)

// File returns the profile as a key file, secrets included. Keys with their default are left out.
func (p Profile) File() keyfile.File {
	var f keyfile.File
	fields := reflect.ValueOf(p)
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Type().Field(i).Tag.Get("nm"), ",")
		v := fields.Field(i)
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				continue
			}
			v = v.Elem()
		}
		f.Groups = append(f.Groups, group(name, v))
	}
	if p.WireGuard != nil {
		for _, peer := range p.WireGuard.Peers {
			f.Groups = append(f.Groups, peer.group())
		}
	}
	if p.VPN != nil && len(p.VPN.Secrets) > 0 {
		g := keyfile.Group{Name: "vpn-secrets"}
		for _, name := range slices.Sorted(maps.Keys(p.VPN.Secrets)) {
			put(&g, name, keyfile.Quote(p.VPN.Secrets[name].Reveal()))
		}
		f.Groups = append(f.Groups, g)
	}
	return f
}

func put(g *keyfile.Group, name, value string) {
	g.Keys = append(g.Keys, keyfile.Key{Name: name, Value: value})
}

// group returns one section.
func group(section string, v reflect.Value) keyfile.Group {
	g := keyfile.Group{Name: section}
	defaults := reflect.New(v.Type()).Elem()
	fill(defaults)
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("nm"), ",")
		usual := reflect.DeepEqual(v.Field(i).Interface(), defaults.Field(i).Interface())
		if name == "" || usual && name != "addr-gen-mode" { // its default depends on who reads
			continue
		}
		switch at := v.Field(i).Interface().(type) {
		case map[string]string:
			for _, key := range slices.Sorted(maps.Keys(at)) {
				put(&g, key, keyfile.Quote(at[key]))
			}
		default:
			if field.Tag.Get("family") != "" && section != "ipv"+field.Tag.Get("family") {
				continue
			}
			putField(&g, name, at)
		}
	}
	return g
}

func putField(g *keyfile.Group, name string, value any) {
	switch at := value.(type) {
	case []string:
		put(g, name, keyfile.QuoteList(at))
	case keyvalue.Secret:
		put(g, name, keyfile.Quote(at.Reveal()))
	case keyvalue.Raw:
		put(g, name, at.Quoted())
	case []Route:
		for i, r := range at {
			putRoute(g, i+1, r)
		}
	case []keyvalue.Rule:
		for i, r := range at {
			put(g, "routing-rule"+strconv.Itoa(i+1), keyfile.Quote(r.String()))
		}
	default:
		if list := reflect.ValueOf(value); list.Kind() == reflect.Slice { // addresses
			for i := range list.Len() {
				put(g, "address"+strconv.Itoa(i+1), fmt.Sprint(list.Index(i).Interface()))
			}
			return
		}
		if name == "addr-gen-mode" {
			put(g, name, []string{"eui64", "stable-privacy", "default-or-eui64", "default"}[value.(int64)])
			return
		}
		put(g, name, keyfile.Quote(fmt.Sprint(value)))
	}
}

func putRoute(g *keyfile.Group, n int, r Route) {
	name := "route" + strconv.Itoa(n)
	text := r.Destination.String()
	if r.Gateway.IsValid() || r.Metric >= 0 {
		text += ","
	}
	if r.Gateway.IsValid() {
		text += r.Gateway.String()
	}
	if r.Metric >= 0 {
		text += "," + strconv.FormatInt(r.Metric, 10)
	}
	put(g, name, text)
	var options []string
	for _, key := range slices.Sorted(maps.Keys(r.Options)) {
		options = append(options, key+"="+r.Options[key])
	}
	if options != nil {
		put(g, name+"_options", strings.Join(options, ","))
	}
}

func (p Peer) group() keyfile.Group {
	g := keyfile.Group{Name: peerPrefix + p.PublicKey}
	if p.Preshared.Reveal() != "" {
		put(&g, "preshared-key", p.Preshared.Reveal())
	}
	if p.PSKFlags != 4 {
		put(&g, "preshared-key-flags", strconv.FormatInt(p.PSKFlags, 10))
	}
	if p.Keepalive != 0 {
		put(&g, "persistent-keepalive", strconv.FormatInt(p.Keepalive, 10))
	}
	if p.Endpoint != "" {
		put(&g, "endpoint", p.Endpoint)
	}
	var allowed []string
	for _, a := range p.AllowedIPs {
		allowed = append(allowed, a.String())
	}
	if allowed != nil {
		put(&g, "allowed-ips", keyfile.QuoteList(allowed))
	}
	return g
}

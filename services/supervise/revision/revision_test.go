package revision

import (
	"reflect"
	"testing"

	"resinos/services/spec"
)

func TestCompare(t *testing.T) {
	listen := spec.Listen{Sockets: []spec.Socket{{Network: "unix", Address: "/run/a"}}}
	plain := spec.Spec{Name: "a", Needs: []string{"b"}}
	described := spec.Spec{Name: "a", Needs: []string{"b"}, Description: "x"}
	listening := spec.Spec{Name: "a", Needs: []string{"b"}, Listen: listen}
	leaving := spec.Spec{Name: "a"} // waits for nobody
	for _, c := range []struct {
		name  string
		known []Known
		list  []spec.Spec
		want  Revision
	}{
		{"nothing known, nothing there", nil, nil, Revision{}},
		{"unchanged", []Known{{Spec: &plain, Stops: true}}, []spec.Spec{plain}, Revision{Fates: []Fate{{}}}},
		{"new", nil, []spec.Spec{{Name: "c"}, plain}, Revision{Added: []string{"a", "c"}}},
		{"changed", []Known{{Spec: &plain}}, []spec.Spec{described},
			Revision{Changed: []string{"a"}, Fates: []Fate{{Changed: true}}}},
		{"other sockets", []Known{{Spec: &listening}}, []spec.Spec{plain},
			Revision{Changed: []string{"a"}, Fates: []Fate{{Changed: true, Reopen: true}}}},
		{"removed, at rest", []Known{{Spec: &plain}}, nil,
			Revision{Removed: []string{"a"}, Fates: []Fate{{Removed: true, Forget: true}}}},
		{"removed while it runs", []Known{{Spec: &plain, Stops: true}}, nil,
			Revision{Removed: []string{"a"}, Fates: []Fate{{Removed: true}}, Specs: []spec.Spec{leaving}}},
		{"still removed", []Known{{Spec: &leaving, Removed: true, Stops: true}}, nil,
			Revision{Fates: []Fate{{Removed: true}}, Specs: []spec.Spec{leaving}}},
		{"there again", []Known{{Spec: &leaving, Removed: true, Stops: true}}, []spec.Spec{plain},
			Revision{Added: []string{"a"}, Fates: []Fate{{}}}},
		{"there again with sockets", []Known{{Spec: &leaving, Removed: true}}, []spec.Spec{listening},
			Revision{Added: []string{"a"}, Fates: []Fate{{Reopen: true}}}},
	} {
		got := Compare(c.known, c.list)
		want := c.want
		want.Specs = append(append([]spec.Spec{}, c.list...), want.Specs...)
		got.Specs = append([]spec.Spec{}, got.Specs...)
		want.Fates = append([]Fate{}, want.Fates...)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
	}
}

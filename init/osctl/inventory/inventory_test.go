package inventory

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"resinos/containers/appstatus"
	"resinos/services/pid1"
)

var device = Inventory{
	Services: []pid1.ServiceStatus{{Name: "manager", State: "up"}, {Name: "job", State: "done", Type: "oneshot"}},
	Apps: []appstatus.App{
		{Name: "manager", State: appstatus.GivenUp, Trouble: appstatus.Trouble{Cause: appstatus.Failed}},
		{Name: "shop", State: appstatus.Up, Containers: []appstatus.Container{{Name: "web", ID: "shop.web",
			State: appstatus.Up}}},
	},
}

// TestFind: a service and an app may have one name, and then both are meant.
func TestFind(t *testing.T) {
	for name, want := range map[string]string{
		"manager": "[service true app false]", "job": "[service true]", "shop": "[app true container true]",
		"shop/web": "[container true]", "shop.web": "[container true]",
		"":       "[service true service true app false app true container true]",
		"shop/x": "no service and no app \"shop/x\"", "web": "no service and no app \"web\"",
	} {
		var names []string
		if name != "" {
			names = []string{name}
		}
		found, err := device.Find(names)
		if err != nil {
			if err.Error() != want || err != error(Unknown(name)) {
				t.Errorf("Find(%q): %v, want %s", name, err, want)
			}
			continue
		}
		if got := fmt.Sprint(kinds(t, found)); got != want {
			t.Errorf("Find(%q) = %s, want %s", name, got, want)
		}
	}
	if got := device.Names(); !reflect.DeepEqual(got, []string{"manager", "job", "manager", "shop", "shop.web"}) {
		t.Errorf("Names = %q", got)
	}
}

// kinds are the entries' kinds, with whether each is up.
func kinds(t *testing.T, found []Thing) []string {
	t.Helper()
	var list []string
	for _, entry := range device.Entries(found, false) {
		text, err := json.Marshal(entry)
		if err != nil {
			t.Fatal(err)
		}
		var e struct{ Kind, State string }
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatal(err)
		}
		list = append(list, e.Kind, fmt.Sprint(e.State == "up" || e.State == "done"))
	}
	return list
}

// TestCaveatIsAnEntry: who reads everything must not take old words for the state of now.
func TestCaveatIsAnEntry(t *testing.T) {
	in := Inventory{Caveat: Caveat{Text: "the manager is down", Since: 3}}
	if got := fmt.Sprint(in.Entries(nil, true)); got != "[{apps apps unknown the manager is down 3}]" ||
		len(in.Entries(nil, false)) != 0 {
		t.Errorf("Entries = %s", got)
	}
}

// TestManagerIsPartOfTheEngine: its name means the service containerd, unless the owner has a service of this name.
func TestManagerIsPartOfTheEngine(t *testing.T) {
	engine := []pid1.ServiceStatus{{Name: "netd"}, {Name: "containerd"}}
	if st := Named(engine, Manager); st == nil || st.Name != "containerd" {
		t.Errorf("manager means %+v", st)
	}
	if st := Named(append(engine, pid1.ServiceStatus{Name: "manager"}), Manager); st == nil || st.Name != "manager" {
		t.Errorf("with a service of this name, manager means %+v", st)
	}
	if st := Named(engine[:1], Manager); st != nil {
		t.Errorf("without an engine, manager means %+v", st)
	}
}

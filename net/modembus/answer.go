package modembus

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/godbus/dbus/v5"
)

// greet is the server's side of the handshake: whoever can open the socket is root, because its directory is root's.
func greet(r *bufio.Reader, w io.Writer) error {
	if b, err := r.ReadByte(); err != nil || b != 0 {
		return fmt.Errorf("first byte is %d, want 0: %w", b, err)
	}
	for range 16 {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		words := append(strings.Fields(string(line)), "", "", "")
		reply := "ERROR"
		switch {
		case words[0] == "BEGIN":
			return nil
		case words[0] == "AUTH" && words[1] == "EXTERNAL" && words[2] == "":
			reply = "DATA" // whom it wants to be comes with the next line
		case words[0] == "DATA", words[0] == "AUTH" && words[1] == "EXTERNAL":
			reply = "OK 30313233343536373839616263646566"
		case words[0] == "AUTH":
			reply = "REJECTED EXTERNAL"
		}
		if _, err := io.WriteString(w, reply+"\r\n"); err != nil {
			return err
		}
	}
	return fmt.Errorf("no BEGIN after 16 lines")
}

// answer returns what a bus daemon, or PolicyKit, answers to a call. It is pure.
func answer(m *dbus.Message) *dbus.Message {
	to, method := text(m, dbus.FieldDestination), text(m, dbus.FieldMember)
	switch to {
	case busName:
		return asBus(method, m.Body)
	case policyName, own:
		return asPolicy(method)
	}
	return fault("ServiceUnknown", to+" is not on this bus")
}

// asBus answers as the bus.
func asBus(method string, args []any) *dbus.Message {
	name := ""
	if len(args) > 0 {
		name, _ = args[0].(string)
	}
	owners := map[string]string{policyName: own, busName: busName}
	switch method {
	case "Hello":
		return result(theirs)
	case "RequestName":
		return result(uint32(1)) // its owner
	case "ReleaseName":
		return result(uint32(1))
	case "AddMatch", "RemoveMatch":
		return result()
	case "NameHasOwner":
		return result(owners[name] != "")
	case "GetNameOwner":
		if owner := owners[name]; owner != "" {
			return result(owner)
		}
		return fault("NameHasNoOwner", name+" is not on this bus")
	case "StartServiceByName":
		if owners[name] != "" {
			return result(uint32(2)) // runs already
		}
		return fault("ServiceUnknown", name+" is not on this bus")
	case "ListNames":
		return result([]string{busName, policyName, own, theirs})
	case "GetConnectionUnixUser":
		return result(uint32(0))
	}
	return fault("UnknownMethod", "this bus does not know "+method)
}

// asPolicy answers as PolicyKit: we alone are on the bus, so everything is allowed.
func asPolicy(method string) *dbus.Message {
	switch method {
	case "CheckAuthorization":
		return result(struct {
			Authorized, Challenge bool
			Details               map[string]string
		}{true, false, map[string]string{}})
	case "CancelCheckAuthorization":
		return result()
	case "GetAll":
		return result(map[string]dbus.Variant{"BackendName": dbus.MakeVariant("resinos"),
			"BackendVersion": dbus.MakeVariant("1"), "BackendFeatures": dbus.MakeVariant(uint32(0))})
	}
	return fault("UnknownMethod", "PolicyKit does not know "+method)
}

func result(values ...any) *dbus.Message {
	return &dbus.Message{Type: dbus.TypeMethodReply, Body: values, Headers: map[dbus.HeaderField]dbus.Variant{}}
}

func fault(name, text string) *dbus.Message {
	return &dbus.Message{Type: dbus.TypeError, Body: []any{text}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldErrorName: dbus.MakeVariant("org.freedesktop.DBus.Error." + name)}}
}

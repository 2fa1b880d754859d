package modemtest

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
)

// A program that has ended without a word to the network leaves a call behind: the next command, byte by byte as
// ModemManager sends it, ends the call. Data between the flags of PPP never does.
func TestCommandEndsCall(t *testing.T) {
	for name, data := range map[string]string{"nothing sent": "", "a frame": "\x7e\xff\x7d\x23AT+CSQ\r\x7e"} {
		t.Run(name, func(t *testing.T) {
			line, device := net.Pipe()
			network, far := net.Pipe()
			var m Modem
			done := make(chan error, 1)
			go func() { done <- m.Serve(context.Background(), line, network) }()
			say := func(text string) {
				t.Helper()
				for _, b := range []byte(text) {
					if _, err := device.Write([]byte{b}); err != nil {
						t.Fatal(err)
					}
				}
			}
			hear := func(want string) {
				t.Helper()
				got := make([]byte, len(want))
				if _, err := io.ReadFull(device, got); err != nil || string(got) != want {
					t.Fatalf("modem says %q, %v; want %q", got, err, want)
				}
			}
			say("ATD*99#\r")
			hear("\r\nCONNECT 115200\r\n")
			say(data)
			got := make([]byte, len(data))
			if _, err := io.ReadFull(far, got); err != nil || string(got) != data {
				t.Fatalf("network gets %q, %v; want %q", got, err, data)
			}
			say("AT+CGMI\r")
			hear("\r\nresinOS\r\n\r\nOK\r\n")
			if got, want := strings.Join(m.Commands(), " "), "D*99# +CGMI"; got != want {
				t.Errorf("commands %q, want %q", got, want)
			}
			device.Close() // ends Serve
			<-done
		})
	}
}

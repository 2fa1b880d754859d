package keyvalue

import (
	"fmt"
	"log/slog"
)

// Secret is a password or key. However it is printed, it shows whether there is one and never what it is: only Reveal
// returns it.
type Secret struct{ value string }

// NewSecret returns value as a Secret.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal returns the password or key itself, for the program that needs it.
func (s Secret) Reveal() string { return s.value }

// String returns "(hidden)", or nothing if there is no secret.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return "(hidden)"
}

// Format writes what String returns, for every verb of fmt.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// MarshalText is what encoders such as JSON write.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue is what slog writes.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

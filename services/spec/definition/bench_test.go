package definition

import (
	"os"
	"testing"
)

// BenchmarkParse times one shipped file, which is what PID 1 does some ten times at boot.
func BenchmarkParse(b *testing.B) {
	data, err := os.ReadFile("../../shipped/containerd.toml")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("containerd.toml", data); err != nil {
			b.Fatal(err)
		}
	}
}

package boottime

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestNow compares with /proc/uptime, which is the same clock in hundredths of a second, cut off.
func TestNow(t *testing.T) {
	before := Now()
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	after := Now()
	seconds, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	up := time.Duration(seconds * float64(time.Second))
	if up < before.Truncate(10*time.Millisecond)-time.Microsecond || up > after {
		t.Errorf("/proc/uptime says %v between %v and %v", up, before, after)
	}
}

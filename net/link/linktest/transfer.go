package linktest

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// Stream sends this many bytes to each who connects with a TCP address, as in "10.9.0.1:98", until the test ends.
// Within Far.Do it serves at the far end.
func Stream(t *testing.T, address string, size int) error {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				block := make([]byte, 64<<10)
				for left := size; left > 0; {
					n, err := c.Write(block[:min(left, len(block))])
					if err != nil {
						return
					}
					left -= n
				}
			}()
		}
	}()
	return nil
}

// Receive connects with a Stream of this size and returns how many MB/s (millions of bytes) came. Within Far.Do it
// connects from the far end.
func Receive(address string, size int) (rate float64, err error) {
	begin := time.Now()
	c, err := net.DialTimeout("tcp4", address, 10*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	n, err := io.Copy(io.Discard, c)
	if err != nil || n != int64(size) {
		return 0, fmt.Errorf("receive from %s: %d bytes of %d: %w", address, n, size, err)
	}
	return float64(n) / 1e6 / time.Since(begin).Seconds(), nil
}

// Rates are what several transfers of one kind had, in MB/s.
type Rates []float64

// String returns the median, the least and the most.
func (r Rates) String() string {
	all := slices.Sorted(slices.Values(r))
	return fmt.Sprintf("%.1f MB/s (%.1f-%.1f)", all[len(all)/2], all[0], all[len(all)-1])
}

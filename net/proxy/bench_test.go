package proxy

import (
	"io"
	"net"
	"os/exec"
	"slices"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/net/link/linktest"
	"resinos/net/redsocks"
)

const benchTo = "203.0.113.10:98"

// extent is how many transfers there are of each kind, and of how many bytes.
func extent() (rounds, size int) {
	if testenv.Figures() {
		return 5, 256 << 20
	}
	return 1, 4 << 20
}

// TestThroughput measures transfers through a SOCKS5 server by our proxy, by Debian's redsocks, and without either, in
// turns. It judges that all bytes come; docs/bench.md has the figures.
func TestThroughput(t *testing.T) {
	testenv.NeedPrograms(t, "nft", "ip", "danted", "redsocks")
	if !linktest.Isolate(t) {
		return
	}
	w := newWorld(t)
	// microsocks moves 1 kB at a time, and would be all that is measured.
	w.program(1080, "danted", "-f", w.file("internal: 198.51.100.1 port = 1080\nexternal: 203.0.113.10\n"+
		"clientmethod: none\nsocksmethod: none\nlogoutput: stdout\nuser.privileged: root\nuser.unprivileged: root\n"+
		"client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\nsocks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"))
	w.stream()
	peer := exec.Command("redsocks", "-c", w.file(
		"base { log_debug = off; log_info = off; daemon = off; redirector = iptables; }\n"+
			"redsocks { type = socks5; ip = 198.51.100.1; port = 1080; local_ip = 127.0.0.1; local_port = 12399; }\n"))
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Process.Kill(); _ = peer.Wait() })
	w.wait("redsocks", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:12399")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	table := []string{"table ip peer {\nchain out {\ntype nat hook output priority -100;\n",
		"ip daddr 203.0.113.10 tcp dport 98 redirect to :12399\n}\n}\n"}
	rates := map[string][]float64{}
	rounds, _ := extent()
	for range rounds {
		rates["neither"] = append(rates["neither"], w.transfer())
		testenv.Run(t, "nft", "-f", w.file(table[0]+table[1]))
		rates["redsocks"] = append(rates["redsocks"], w.transfer())
		testenv.Run(t, "nft", "delete", "table", "ip", "peer")
		w.write(redsocks.Name, conf("socks5", 1080, ""))
		w.start()
		w.inForce("socks5 198.51.100.1:1080")
		rates["ours"] = append(rates["ours"], w.transfer())
		w.stop()
		<-w.ended
		testenv.Run(t, "nft", "flush", "ruleset")
	}
	for _, who := range []string{"neither", "redsocks", "ours"} {
		all := rates[who]
		slices.Sort(all)
		t.Logf("%-9s %5.0f MB/s (%.0f-%.0f)", who, all[len(all)/2], all[0], all[len(all)-1])
	}
}

// stream sends what is transferred to whoever connects with benchTo.
func (w *world) stream() {
	_, size := extent()
	w.far.Do(func() error {
		l, err := net.Listen("tcp", benchTo)
		if err != nil {
			return err
		}
		w.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					block := make([]byte, 256<<10)
					for range size / len(block) {
						if _, err := c.Write(block); err != nil {
							return
						}
					}
				}()
			}
		}()
		return nil
	})
}

// transfer returns the rate of one transfer in MB/s.
func (w *world) transfer() float64 {
	w.t.Helper()
	begin := time.Now()
	c, err := net.Dial("tcp", benchTo)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	_, size := extent()
	n, err := io.Copy(io.Discard, c)
	if err != nil || n != int64(size) {
		w.t.Fatalf("%d bytes, %v", n, err)
	}
	return float64(n) / 1e6 / time.Since(begin).Seconds()
}

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

const (
	// Socket is what PID 1 listens on for local clients (services/shipped/docker.toml).
	Socket = "/run/docker.sock"
	// inner is the daemon's own socket, which only the gate uses.
	inner = "/run/docker/api.sock"
	// ownerFile is where the owner may write settings of moby's daemon.json, for example insecure-registries.
	ownerFile = "/mnt/data/docker.json"
)

// settings returns the command line of moby's daemon: ours, then more.
func settings(more []string) []string {
	list := []string{
		"--host=unix://" + inner,
		"--containerd=/run/containerd/containerd.sock",
		"--containerd-namespace=moby",             // not that of apps: the manager removes there what no app wants
		"--data-root=/mnt/data/containerd/docker", // in the engine's directory: the limit of data holds for it too
		"--cgroup-parent=/resinos/containers",     // and so do those of memory, swap and tasks
		"--exec-root=/run/docker",
		"--pidfile=", // PID 1 starts one daemon only, and a stale file would keep the next one away
		"--init-path=/usr/bin/tini",
		"--firewall-backend=nftables", // the root has nft, and no iptables
		"--userland-proxy=false",      // no process for each published port
		"--live-restore",              // containers survive a crash of the daemon
		"--group=root",
		"--log-level=error", // each start gives six warnings, of iptables and the like
		"--raw-logs",
	}
	if _, err := os.Stat(ownerFile); err == nil {
		list = append(list, "--config-file="+ownerFile)
	}
	return append(list, more...)
}

// forwardSwitch is the kernel's switch for the forwarding of packets. moby's daemon demands it on, and does not turn it
// on itself, because the kernel then forwards between all links.
const forwardSwitch = "/proc/sys/net/ipv4/ip_forward"

// fence is the packet filter that keeps a device from forwarding between its hardware links. The mark is that of
// packets which netd lets through, of links that are shared (net/ruleset/part).
const fence = `table inet resinos-docker
delete table inet resinos-docker
table inet resinos-docker {
	chain forward {
		type filter hook forward priority filter; policy accept;
		meta mark & 0x10000000 != 0 accept
		meta iifkind != "bridge" meta oifkind != "bridge" drop
	}
}
`

// forwarding turns the forwarding of packets on. If somebody else has turned it on, that one has decided between
// which links: nothing changes.
func forwarding(ctx context.Context) error {
	text, err := os.ReadFile(forwardSwitch)
	if err != nil || strings.TrimSpace(string(text)) == "1" {
		return err
	}
	nft := exec.CommandContext(ctx, "/usr/sbin/nft", "-f", "-")
	nft.Stdin = strings.NewReader(fence)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("load packet filter resinos-docker: %w: %s", err, out)
	}
	return os.WriteFile(forwardSwitch, []byte("1"), 0o644)
}

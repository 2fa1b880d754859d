package ruleset

import (
	"context"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// calm is how long a burst of changes may last before it is reported.
const calm = time.Second

// Watch calls changed once it can see changes, and when somebody has changed a table, chain or rule, until ctx ends:
// once for all changes within a second. It has the kernel load its modules for tables.
func Watch(ctx context.Context, changed func()) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		return fmt.Errorf("watch packet filter: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	changed()
	for ctx.Err() == nil {
		_, _ = conn.Receive() // an error says that there were more changes than the socket has room for
		select {
		case <-ctx.Done():
		case <-time.After(calm):
			changed()
		}
	}
	return nil
}

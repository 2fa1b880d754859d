#!/bin/sh
# /init of the peer's initramfs: modules, root, and on.
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod "$module"; done
mount -t ext4 /dev/vda /root
mount --move /dev /root/dev
exec switch_root /root /sbin/init

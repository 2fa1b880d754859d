#!/bin/sh
# PID 1 of the peer: mounts, link, engine, one container; no supervision, no log, no state of its own.
export PATH=/usr/bin:/usr/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mkdir /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
for module in /modules/*.ko; do insmod "$module"; done
read up rest </proc/uptime
echo "bench: root ${up}s"

# The kernel hands a word of its command line that it does not know to this script.
containerd --config ${bench_config:-/etc/containerd.toml} >/run/containerd.log 2>&1 &
engine=$!
ip link set lo up
ip link set eth0 up
udhcpc -q -f -t 30 -i eth0 -s /etc/udhcpc.sh >/run/udhcpc.log 2>&1 &
until [ -S /run/containerd/containerd.sock ]; do usleep 20000; done
read up rest </proc/uptime
echo "bench: engine ${up}s"

runtime=${bench_runtime:-/usr/bin/crun}
run() { ctr run --rm --net-host --runc-binary $runtime docker.io/resinos/bench:latest bench "$@"; }

# The first start, which is not measured: the image is imported and unpacked.
if [ ! -e /prepared ]; then
    ctr images import /bench.tar && run true && touch /prepared && echo "bench: prepared" || cat /run/containerd.log
    kill $engine
    wait $engine
    sync
    mount -o remount,ro /
    poweroff -f
fi

run | {
    read line
    read up rest </proc/uptime
    echo "bench: container_output ${up}s"
    cat
} &
sleep 75
echo 3 >/proc/sys/vm/drop_caches
echo "bench: dropped"
while :; do sleep 3600; done

package boottest

import (
	"fmt"

	"github.com/rogpeppe/go-internal/testscript"
)

// keeperNew makes the app keeper, whose container counts in a file of its volume, one number a line, and goes on after
// a restart where it was; and a file there with its digest.
const keeperNew = `
set -e
mkdir -p /mnt/data/apps/keeper
cat > /mnt/data/apps/keeper/compose.yaml <<'E'
services:
  keeper:
    image: resinos/hello:latest
    command:
      - sh
      - -c
      - |
        trap 'exit 0' TERM
        i=$$(tail -n 1 /data/ticks || echo 0)
        while true; do
          i=$$((i + 1))
          echo $$i >> /data/ticks
          sleep 2 & wait $$!
        done
    restart: always
    volumes: ["data:/data"]
volumes:
  data:
E
n=0
until test -s /mnt/data/volumes/keeper/data/ticks; do
	n=$((n + 1))
	test $n -lt 300
	sleep 0.5
done
dd if=/dev/urandom of=/mnt/data/volumes/keeper/data/blob bs=1M count=4
cd /mnt/data/volumes/keeper/data
sha256sum blob > sum
sync
`

// keeperCheck waits until its container is up again, and fails if it has lost anything.
const keeperCheck = `
set -e
n=0
until osctl ps keeper | grep -q ' up '; do
	n=$((n + 1))
	test $n -lt 300
	sleep 0.5
done
cd /mnt/data/volumes/keeper/data
sha256sum -c sum
awk '$1 != NR { print "line " NR " is " $1; exit 1 }' ticks
wc -l < ticks
`

// keeper new|check: makes the app keeper, or checks that it runs and has all its data.
func cmdKeeper(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1 && !neg && (args[0] == "new" || args[0] == "check"), "keeper new|check")
	script := keeperNew
	if args[0] == "check" {
		script = keeperCheck
	}
	runInGuest(ts, false, script)
}

// install URL [FLAG]: installs an update in the guest and reboots into it. It does not wait for the next boot.
func cmdInstall(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, (len(args) == 1 || len(args) == 2) && !neg, "install URL [FLAG]")
	flag := ""
	if len(args) == 2 {
		flag = args[1]
	}
	runInGuest(ts, false, fmt.Sprintf("osctl update --no-reboot %s %s || exit 1\n"+
		"(sleep 1; osctl reboot) > /dev/null 2>&1 &", flag, args[0]))
}

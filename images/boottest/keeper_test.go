package boottest

import (
	"fmt"

	"github.com/rogpeppe/go-internal/testscript"
)

// keeperNew makes the app keeper, whose container counts in a file of its volume, writes each number out before it puts
// it in the place of the one before, and goes on after a restart where it was; and a file there with its digest.
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
        i=$$(cat /data/count || echo 0)
        while true; do
          i=$$((i + 1))
          echo $$i > /data/next
          sync
          mv /data/next /data/count
          sleep 3 & wait $$!
        done
    restart: always
    volumes: ["data:/data"]
volumes:
  data:
E
n=0
until test -s /mnt/data/volumes/keeper/data/count; do
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
now=$(cat count)
test $now -ge $(cat seen 2> /dev/null || echo 1)
echo $now > seen
echo counted to $now
sync
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

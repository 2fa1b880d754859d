#!/bin/sh
# sysroot.sh ARCH FOLDER: unpack libseccomp's headers and static library of Debian architecture ARCH
# into FOLDER, for linking runc. The host's own apt sources and keys are used under a private state,
# so that the host's package lists stay as they are; apt checks signatures and digests.
set -eu
arch=$1
folder=$2
state=$PWD/.cache/apt/sysroot-$arch
fail() {
	echo "sysroot.sh: $1" >&2
	exit 1
}
for tool in apt-get dpkg-deb pkg-config; do
	command -v "$tool" >/dev/null || fail "$tool is lacking: apt-get install apt dpkg pkg-config"
done
mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$folder"
: >"$state/status"
cat >"$state/apt.conf" <<-END
	APT::Architecture "$arch";
	APT::Architectures { "$arch"; };
	APT::Sandbox::User "root";
	APT::Install-Recommends "false";
	Dir::State "$state";
	Dir::State::status "$state/status";
	Dir::Cache "$state/cache";
	Acquire::Languages "none";
	Acquire::Retries "3";
END
export APT_CONFIG="$state/apt.conf"
# A source that lacks this architecture, or a mirror in the middle of its own update, is no fault
# as long as the packages below can be had.
apt-get -q=2 update >"$state/log" 2>&1 || true
work=$(mktemp -d "$state/debs.XXXXXX")
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get -q=2 download libseccomp-dev >>"$state/log" 2>&1) ||
	fail "download libseccomp-dev for $arch: $(tail -n 1 "$state/log"); the whole log is $state/log"
for deb in "$work"/*.deb; do
	dpkg-deb -x "$deb" "$folder"
done
[ -n "$(find "$folder" -name libseccomp.a)" ] || fail "libseccomp-dev for $arch holds no libseccomp.a"
touch "$folder/ready"

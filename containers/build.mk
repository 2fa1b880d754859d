# How the device's container programs are made; included by the top Makefile, from whose directory it runs.
# bin/ARCH/engine and bin/ARCH/containerd-shim-runc-v2, ARCH being amd64 or arm64.
# Every output depends only on the sources, go.sum and the Go release.

containers-go := $(shell find containers net/link net/nameserver services mounts -name '*.go' -not -name '*_test.go') go.mod go.sum
containers-build := -trimpath -buildvcs=false
containers-ldflags := -s -w -buildid=

engine-tags := osusergo,netgo,static_build,grpcnotrace,no_tracing,no_systemd,no_rdt
shim-tags := osusergo,netgo,static_build,no_grpc,grpcnotrace

containers-binaries = $(addprefix bin/$(1)/,engine containerd-shim-runc-v2)

bin/%/engine: $(containers-go) containers/build.mk bin/runtime/overlay.json
	CGO_ENABLED=0 GOOS=linux GOARCH=$* go build $(containers-build) $(small-runtime) -tags $(engine-tags) -ldflags '$(containers-ldflags)' -o $@ ./containers/engine

bin/%/containerd-shim-runc-v2: $(containers-go) containers/build.mk bin/runtime/overlay.json
	CGO_ENABLED=0 GOOS=linux GOARCH=$* go build $(containers-build) $(small-runtime) -tags $(shim-tags) -ldflags '$(containers-ldflags)' -o $@ ./containers/shim

# Docker's API: moby's daemon, in a module of its own. What the tags leave out needs C, or another engine than ours.
docker-go := $(shell find containers/docker -name '*.go' -not -name '*_test.go') containers/docker/go.mod containers/docker/go.sum
docker-tags := osusergo,netgo,static_build,no_embedded_containerd,exclude_graphdriver_btrfs,exclude_graphdriver_zfs,exclude_graphdriver_overlay2,exclude_graphdriver_fuseoverlayfs,no_btrfs,no_zfs,no_devmapper

docker-version = $(shell awk '$$1 == "github.com/moby/moby/v2" {print substr($$2, 2)}' containers/docker/go.mod)
docker-ldflags = $(containers-ldflags) -X github.com/moby/moby/v2/dockerversion.Version=$(docker-version) -X github.com/moby/moby/v2/dockerversion.GitCommit=

bin/%/dockerd: $(docker-go) containers/build.mk
	CGO_ENABLED=0 GOOS=linux GOARCH=$* go -C containers/docker build $(containers-build) -tags $(docker-tags) -ldflags '$(docker-ldflags)' -o $(CURDIR)/$@ .

# The OCI runtime is Debian's crun, and the first process of containers with init: true is its tini, pinned in the lock of each board. The image builder takes it from there; the tests of the
# engine run the same program on this host, with its own C library.
crun-packages := crun libc6 libcap2 libseccomp2 libsystemd0 libyajl2 tini
crun-board-amd64 := qemu-x86_64
crun-board-arm64 := qemu-arm64

.PRECIOUS: bin/%/crun/ready
bin/%/crun/ready: bsp/boards/qemu-x86_64.lock bsp/boards/qemu-arm64.lock containers/build.mk bin/resin
	rm -rf $(@D)
	bin/resin bsp unpack $(crun-board-$*) $(crun-packages) -o $(@D)
	touch $@

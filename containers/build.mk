# How the device's container programs are made; included by the top Makefile, from whose folder it runs.
# bin/ARCH/engine, bin/ARCH/containerd-shim-runc-v2 and bin/ARCH/runc, ARCH being amd64 or arm64.
# Every output depends only on the sources, go.sum, the Go release and (runc) the C compiler and libseccomp.

containers-go := $(shell find containers services mounts -name '*.go' -not -name '*_test.go') go.mod go.sum
containers-build := -trimpath -buildvcs=false
containers-ldflags := -s -w -buildid=

engine-tags := osusergo,netgo,static_build,grpcnotrace,no_tracing,no_systemd,no_rdt
shim-tags := osusergo,netgo,static_build,no_grpc,grpcnotrace
runc-tags := osusergo,netgo,seccomp,urfave_cli_no_docs,runc_nocriu

containers-binaries = $(addprefix bin/$(1)/,engine containerd-shim-runc-v2 runc)

bin/%/engine: $(containers-go)
	CGO_ENABLED=0 GOOS=linux GOARCH=$* go build $(containers-build) -tags $(engine-tags) -ldflags '$(containers-ldflags)' -o $@ ./containers/engine

bin/%/containerd-shim-runc-v2: $(containers-go)
	CGO_ENABLED=0 GOOS=linux GOARCH=$* go build $(containers-build) -tags $(shim-tags) -ldflags '$(containers-ldflags)' -o $@ ./containers/shim

# runc needs C: it enters namespaces before Go's threads exist. The version is go.mod's. Without
# checkpoints (criu is not on the device); libpathrs would need Rust.
runc-sysroot = .cache/sysroot/$(1)
runc-triple-amd64 := x86_64-linux-gnu
runc-triple-arm64 := aarch64-linux-gnu
runc-pkgconfig = PKG_CONFIG_LIBDIR=$(abspath $(runc-sysroot))/usr/lib/$(runc-triple-$(1))/pkgconfig PKG_CONFIG_SYSROOT_DIR=$(abspath $(runc-sysroot))

bin/%/runc: go.mod go.sum .cache/sysroot/%/ready
	CGO_ENABLED=1 GOOS=linux GOARCH=$* CC=$(runc-triple-$*)-gcc $(call runc-pkgconfig,$*) \
	  go build $(containers-build) -tags $(runc-tags) \
	  -ldflags '$(containers-ldflags) -extldflags "-static -Wl,--build-id=none"' -o $@ github.com/opencontainers/runc

.PRECIOUS: .cache/sysroot/%/ready
.cache/sysroot/%/ready: containers/sysroot.sh
	containers/sysroot.sh $* $(call runc-sysroot,$*)

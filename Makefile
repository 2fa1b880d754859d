# resinOS in Go. make help lists the targets.
BOARD   ?= qemu-x86_64
VARIANT ?= development
IMAGE   ?= build/$(BOARD)-$(VARIANT).img
ARCHES  := amd64 arm64

board-arch = $(if $(findstring arm64,$(1)),arm64,amd64)
ARCH    := $(call board-arch,$(BOARD))
GO      := go
# Docker's API of development and standalone images takes minutes to compile. Images for tests are built without it
# unless DOCKER=1; make image and make run build it unless DOCKER=0.
DOCKER  ?=
without := $(if $(filter 1,$(DOCKER)),,--without docker)
docker-for = $(if $(filter 1,$(DOCKER)),$(ARCHES:%=bin/%/dockerd))
image-lacks := $(if $(filter 0,$(DOCKER)),docker)
image-docker := $(if $(filter production,$(VARIANT))$(image-lacks),,bin/$(ARCH)/dockerd)
export GOFLAGS := -buildvcs=false

# -buildid= and -trimpath: the same source gives the same bytes, wherever it is built.
device-build = CGO_ENABLED=0 GOOS=linux GOARCH=$(1) $(GO) build -trimpath $(small-runtime) -tags '$(3)' $(4) -ldflags '-s -w -buildid=' -o $(2)
# Without inlining a program is 8 % smaller, which saves 0.5 MB in the root: for programs that mostly wait.
small := -gcflags=all=-l
# Go's runtime with shorter tables: 0.5 to 1 MB less memory for each program (docs/decisions/0069-memory-at-rest.md).
small-runtime := -overlay=$(CURDIR)/bin/runtime/overlay.json

.PHONY: help
help: ## lists the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@printf '\n  BOARD=%s (%s)\n  VARIANT=%s (production development standalone)\n' '$(BOARD)' "$$(cd bsp/boards && ls *.toml | sed 's/\.toml//' | xargs)" '$(VARIANT)'

.PHONY: run
run: image ## builds what changed, boots it in QEMU, attaches the serial console
	bin/resin run $(IMAGE)

.PHONY: image
image: build $(image-docker) ## builds the disk image of BOARD and VARIANT; DOCKER=0 without Docker's API
	@mkdir -p $(dir $(IMAGE))
	bin/resin build --board $(BOARD) --variant $(VARIANT) $(addprefix --without ,$(image-lacks)) -o $(IMAGE)

.PHONY: build
build: deps bin/resin device-$(ARCH) ## builds bin/resin and the device binaries of BOARD

.PHONY: build-all
build-all: deps bin/resin $(ARCHES:%=device-%) ## builds them for every architecture

.PHONY: deps
deps: ## installs the Debian packages that are missing, and says why each is needed
	@.ci/apt

.PHONY: test
test: test-images bin/amd64/crun/ready ## runs what CI runs: units, namespaces, recorded power cuts, QEMU boots
	RESINOS_IMAGES=$(CURDIR)/build $(GO) test -p 2 -timeout 45m $$($(GO) list ./... | grep -v /images/boottest)
	RESINOS_IMAGES=$(CURDIR)/build $(GO) test -timeout 45m -v ./images/boottest

.PHONY: test-images
test-images: build-all $(docker-for)
	@mkdir -p build
	bin/resin build --board qemu-x86_64 --variant development $(without) -o build/qemu-x86_64-development.img
	bin/resin build --board qemu-arm64 --variant development $(without) -o build/qemu-arm64-development.img
	bin/resin build --board qemu-x86_64 --variant production -o build/qemu-x86_64-production.img
	bin/resin build --board qemu-x86_64 --variant standalone $(without) -o build/qemu-x86_64-standalone.img

# The image that CI boots on the other board only.
.PHONY: test-closed
test-closed: build-all
	@mkdir -p build
	bin/resin build --board qemu-arm64 --variant production -o build/qemu-arm64-production.img
	bin/resin build --board qemu-arm64 --variant standalone $(without) -o build/qemu-arm64-standalone.img

# The update that the stories install: the same system, as a later version.
.PHONY: test-bundles
test-bundles: $(foreach b,qemu-x86_64 qemu-arm64,build/$(b)-development.bundle)
build/%.bundle: build-all $(docker-for)
	@mkdir -p build
	bin/resin build --board $(*:-development=) --variant development $(without) --version 0.2.0 -o $@.img
	bin/resin bundle $@.img -o $@
	rm $@.img

# The image that the story about Docker's client boots, and that client.
.PHONY: test-docker
test-docker: build-all bin/amd64/dockerd
	@mkdir -p build
	bin/resin build --board qemu-x86_64 --variant development -o build/qemu-x86_64-docker.img
	.ci/docker-client build/docker-client

.PHONY: prove
prove: test-images test-closed test-bundles test-docker ## runs what takes longer: every boot story on every board, all power cuts, an idle device, throttled units
	RESINOS_DOCKER_CLIENT=$(CURDIR)/build/docker-client RESINOS_PROVE=1 RESINOS_IMAGES=$(CURDIR)/build $(GO) test -count=1 -timeout 2h -v ./images/boottest
	$(MAKE) powercut THOROUGH=1
	$(MAKE) prove-update
	RESINOS_PROVE=1 $(GO) test -count=1 -v -run TestBrowser ./init/osctl/drawing
	$(MAKE) idle
	$(MAKE) test-throttled

# Excluded: tests that boot whole devices or PID 1s or build whole images, and benches. Throttled, each would take hours; no
# other package of images takes more than ten seconds of a processor.
whole := appbench bootbench boottest build cuttest servicebench
UNITS = $(shell $(GO) list ./... | grep -v $(whole:%=-e /images/%$$) -e resinos/init$$)

.PHONY: test-throttled
test-throttled: deps bin/amd64/crun/ready ## runs five copies of each of UNITS at once, each at 5 % of a processor: tests that guess about time fail
	CI=true $(GO) test -p 6 -count=1 -timeout 6h -exec $(CURDIR)/.ci/throttle $(UNITS)

.PHONY: powercut
powercut: build ## records what BOARD writes, and checks the disk after every power cut; THOROUGH=1 tries all losses and tears
	@mkdir -p build
	bin/resin build --board $(BOARD) --variant development $(without) -o build/$(BOARD)-development.img
	rm -rf build/powercut && bin/resin powercut record build/$(BOARD)-development.img build/powercut
	bin/resin powercut check $(if $(THOROUGH),--thorough) --good build/powercut
	! bin/resin powercut check --section careless build/powercut

.PHONY: prove-update
prove-update: test-images ## records updates with the slots of real images for both bootloaders, and checks the disk after every power cut
	bin/resin build --board qemu-x86_64 --variant development $(without) --version 0.2.0 -o build/qemu-x86_64-next.img
	bin/resin build --board qemu-arm64 --variant development $(without) --version 0.2.0 -o build/qemu-arm64-next.img
	RESINOS_PROVE_UPDATE=$(CURDIR)/build $(GO) test -count=1 -timeout 60m -v -run TestCutsOfAnUpdate ./init/updater
	rm build/qemu-x86_64-next.img build/qemu-arm64-next.img

.PHONY: idle
idle: build ## leaves BOARD alone for ten minutes, and fails if anything is written or a process is busy
	@mkdir -p build
	bin/resin build --board $(BOARD) --variant development $(without) -o build/$(BOARD)-development.img
	RESINOS_IMAGES=$(CURDIR)/build RESINOS_BOARD=$(BOARD) RESINOS_IDLE=10m RESINOS_BENCH=1 $(GO) test -count=1 -timeout 40m -v -run TestPowerCut ./images/cuttest

.PHONY: check
check: build-all budget-files ## checks the rules of the tree: format, vet, staticcheck, layers, limits, names, budgets
	@test -z "$$(gofmt -l .ci $$(git ls-files '*.go'))" || { gofmt -l .ci $$(git ls-files '*.go'); echo 'check: gofmt would change these'; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./... ./.ci/check
	$(GO) test ./.ci/check
	cd containers/docker && $(GO) vet ./gate && $(GO) test ./gate
	$(GO) tool staticcheck -checks inherit,ST1020,ST1021,ST1022 ./...
	$(GO) run ./.ci/check

.PHONY: budget-files
budget-files: build-all
	@mkdir -p build
	bin/resin build --board qemu-x86_64 --variant production -o build/qemu-x86_64-production.img
	bin/resin build --board qemu-arm64 --variant production -o build/qemu-arm64-production.img

.PHONY: bench
bench: build ## measures boot, memory, sizes, a warm rebuild and the services; docs/bench.md holds the figures
	@mkdir -p build
	bin/resin build --board $(BOARD) --variant development $(without) -o build/$(BOARD)-development.img
	RESINOS_BENCH=1 RESINOS_BOARD=$(BOARD) RESINOS_IMAGES=$(CURDIR)/build $(GO) test -count=1 -timeout 30m -v -run TestBench ./images/boottest
	@printf '\nbinaries, bytes\n' && wc -c bin/$(ARCH)/* && bin/resin inspect build/$(BOARD)-development.img
	@printf '\nwarm rebuild, nothing changed\n' && bash -c 'time $(MAKE) -s image VARIANT=development'
	@$(MAKE) -s bench-services

.PHONY: bench-boot
bench-boot: build ## measures boot and memory beside a bare shell script with Debian's containerd; RESINOS_COUNT=1 counts instructions
	@mkdir -p build/bench
	RESINOS_BENCH=1 $(GO) test -count=1 -timeout 24h -v -run TestBootBench ./images/bootbench

.PHONY: profile
profile: build ## samples what a booting device executes, by program and function; RESINOS_ONLY='bare script' or 'first' for another one
	@mkdir -p build/bench
	RESINOS_BENCH=1 $(GO) test -count=1 -timeout 1h -v -run TestBootProfile ./images/bootbench

.PHONY: bench-apps
bench-apps: build ## measures containers beside Debian's Docker engine, natively; RESINOS_ROUNDS, RESINOS_ONLY=pulls|starts|traffic|rest
	@.ci/apt bench-apt.txt
	@mkdir -p build/appbench
	RESINOS_BENCH=1 $(GO) test -count=1 -timeout 24h -v -run TestAppBench ./images/appbench

.PHONY: bench-proxy
bench-proxy: deps ## measures transfers through a SOCKS5 server by our proxy and by Debian's redsocks, natively
	RESINOS_BENCH=1 $(GO) test -count=1 -v -run TestThroughput ./net/proxy

.PHONY: bench-tunnels
bench-tunnels: build ## measures transfers by openvpn and shared links beside stock setups, and on an emulated device by wireguard and shared Wi-Fi
	@.ci/apt bench-apt.txt
	@mkdir -p build
	RESINOS_BENCH=1 $(GO) test -count=1 -v -run 'TestTunnelRates|TestSharedRates' ./net/netd ./net/sharing
	bin/resin build --board qemu-x86_64 --variant development $(without) -o build/qemu-x86_64-development.img
	RESINOS_PROVE=1 RESINOS_IMAGES=$(CURDIR)/build $(GO) test -count=1 -timeout 40m -v -run 'TestStories/lanes/qemu-x86_64/own/net_rates' ./images/boottest

.PHONY: bench-dhcp
bench-dhcp: deps ## measures the time from link up to address of netd, systemd-networkd and NetworkManager, natively
	@.ci/apt bench-apt.txt
	RESINOS_BENCH=1 $(GO) test -count=1 -v -run TestLinkUpToAddress ./net/netd

.PHONY: bench-units
bench-units: ## runs the units that have limits of time and memory, and checks these limits
	RESINOS_BENCH=1 $(GO) test -p 1 -count=1 $$(grep -rlE 'testenv\.(AtMost|Figures)' --include='*_test.go' . | xargs -n 1 dirname | sort -u)

.PHONY: bench-services
bench-services: deps ## measures our PID 1 beside finit, s6, runit and (RESINOS_PEBBLE=path) pebble
	@.ci/apt bench-apt.txt
	@mkdir -p build && rm -f build/bench-services.json
	RESINOS_BENCH=1 RESINOS_BENCH_OUT=$(CURDIR)/build/bench-services.json $(GO) test -count=1 -timeout 24h -v ./images/servicebench

.PHONY: clean
clean: ## removes what was built; the download cache stays
	rm -rf bin build .cache/stages

# Go decides what is out of date; its cache makes a build with no change take a second.
# When the source was last changed: the clocks of devices start at this time. Without git the builder has a default.
SOURCE_TIME := $(shell git log -1 --format=%ct 2>/dev/null)

.PHONY: bin/resin $(ARCHES:%=device-%)
bin/resin:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X resinos/images/build.sourceTime=$(SOURCE_TIME)' -o $@ ./images/resin

$(ARCHES:%=device-%): device-%: bin/runtime/overlay.json bin/%/init bin/%/initramfs bin/%/tools bin/%/sshd bin/%/netd bin/%/engine bin/%/containerd-shim-runc-v2

bin/runtime/overlay.json: FORCE
	@.ci/small-runtime $@
.PHONY: FORCE
FORCE:

.PHONY: $(ARCHES:%=bin/%/init)
$(ARCHES:%=bin/%/init): bin/%/init: bin/runtime/overlay.json
	$(call device-build,$*,$@,) ./init

.PHONY: $(ARCHES:%=bin/%/initramfs)
$(ARCHES:%=bin/%/initramfs): bin/%/initramfs: bin/runtime/overlay.json
	$(call device-build,$*,$@,) ./init/initramfs

.PHONY: $(ARCHES:%=bin/%/sshd)
$(ARCHES:%=bin/%/sshd): bin/%/sshd: bin/runtime/overlay.json
	$(call device-build,$*,$@,sshd) ./init/tools

# netd is in the memory of every device: without inlining it is 0.5 MB smaller. Go's own library and the packages that
# answer name questions keep inlining, without which questions take a third longer
# (docs/decisions/0061-memory-of-netd.md).
netd-flags := -gcflags=all=-l -gcflags=std= -gcflags=resinos/net/forward= -gcflags=resinos/net/dnswire= \
  -gcflags=golang.org/x/net/dns/dnsmessage=
.PHONY: $(ARCHES:%=bin/%/netd)
$(ARCHES:%=bin/%/netd): bin/%/netd: bin/runtime/overlay.json
	$(call device-build,$*,$@,) $(netd-flags) ./net/network

.PHONY: $(ARCHES:%=bin/%/tools)
$(ARCHES:%=bin/%/tools): bin/%/tools: bin/runtime/overlay.json
	$(call device-build,$*,$@,nethttpomithttp2,$(small)) ./init/tools

include containers/build.mk

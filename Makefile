# The commands of this project. The work is done in Go: docker/build, cmd/, e2e/.

GO          ?= go
FUZZ        ?= 20000x
ROOM        ?= *
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The compose plugin of e2e: a version of our choice, beside the machine's docker-compose.
COMPOSE_VERSION ?= v2.40.3
COMPOSE_PLUGIN  := bin/compose-$(COMPOSE_VERSION)/cli-plugins/docker-compose

# A local engine publishes ports on this machine; without this, testcontainers
# would ask for a helper image and for the gateway's address.
export TESTCONTAINERS_RYUK_DISABLED ?= true
ifeq ($(DOCKER_HOST)$(TESTCONTAINERS_HOST_OVERRIDE),)
export TESTCONTAINERS_HOST_OVERRIDE := 127.0.0.1
endif

.DEFAULT_GOAL := help
.PHONY: help up up-local down images kit check unit cross plugin model torture fuzz e2e test bench bench-long clean

help: ## show this list
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  \1#\2/p' Makefile | while IFS='#' read -r name about; do printf '  %-12s %s\n' "$$name" "$$about"; done
	@echo "Variables: RELEASE=1 (images, kit: refuse development keys), TERRACOTTA_PORT, MANAGEMENT_PORT, CART1_PORT, CART2_PORT (up, up-local), COMPOSE=docker-compose (up, down: the program to use), PROFILE=pair|triple (up, down: several servers)"

up: ## build the images, start the demo of compose.yaml, wait until healthy, print the URLs
	@command -v $(GO) >/dev/null || { echo "make up needs Go 1.26 or later: https://go.dev/dl/"; exit 1; }
	@echo "make up: check Docker and ports; build kit and images; start server, configure it, start two carts; wait until healthy"
	@echo "(the first time takes a minute or two, most of it compiling)"
	@$(GO) run ./docker/build up

down: ## remove what up started: containers, volumes, network (.dev and images stay)
	@$(GO) run ./docker/build down

up-local: ## the same demo as plain processes, without Docker, until Ctrl-C (sessions stay in .dev/local)
	@CGO_ENABLED=0 $(GO) build -o bin/ ./cmd/terracotta-server ./cmd/cluster-tool ./cmd/cart-example ./cmd/license-issuer ./cmd/demo
	@bin/license-issuer dev --dir .dev
	@bin/demo up --data .dev/local --license .dev/licenses/license.xml --trusted-keys .dev/trusted

images: ## build the kit and the three images
	@$(GO) run ./docker/build images

kit: ## make dist/terracotta-db-VERSION with static binaries for Linux
	@$(GO) run ./docker/build kit

check: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "gofmt these:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e ./e2e/...
	cd bench && $(GO) vet ./...
	cd e2e/foreign && $(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) run $(STATICCHECK) -tags e2e ./e2e/...

# check has vetted them, and a race build, whose packages are others, would be vetted anew. Without
# GORACE every process of a race build, each package's tests at least, ends a second late. Packages
# that take longest come first.
unit: export GORACE := $(GORACE) atexit_sleep_ms=0
unit: ## all tests that need no Docker, with the race detector
	.ci/tests $(GO) test -race -vet=off -shuffle=on -timeout 20m ./internal/stripe ./cmd/terracotta-server ./internal/history ./...
	.ci/tests $(GO) test ./internal/ownership/model
	cd bench && ../.ci/tests $(GO) test ./...
	cd e2e/foreign && ../../.ci/tests $(GO) test -count=1 ./...

cross: ## everything compiles for every platform that a release is built for
	CROSS=1 .ci/tests $(GO) test -count=1 -timeout 30m -run TestReleasesCrossCompile .

model: ## search the model of session ownership (docs/ownership.md): every promise holds, and each rule is needed or said not to be
	$(GO) run ./internal/ownership/model/check

torture: ## 100 rounds of kill -9 under load, 100 seeds of a disk that forgets, 100 of histories under faults (SEED=N: that one again)
	$(GO) test -race -count=1 -timeout 30m -run '$(if $(SEED),,TestKill|)TestForgetfulDisk' ./internal/stripe -kills 100 -seeds 100 $(if $(SEED),-seed $(SEED))
	$(GO) test -race -count=1 -timeout 120m -run 'UnderFaults' ./internal/history -seeds 100 -length 5s $(if $(SEED),-seed $(SEED))

# Minimising is bounded by executions: by time, it would be a minute for each
# input that reaches something new.
fuzz: ## every fuzz target in turn, bench's too (FUZZ=10000000x: executions of each; ROOM=license: one room)
	@grep -ro '^func Fuzz[A-Za-z0-9]*' --include='*_test.go' $(ROOM) | sed 's|/[^/]*:func | |' | sort | while read -r room target; do \
		echo "fuzz $$room $$target"; \
		(cd "$$room" && $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ) -fuzzminimizetime 50x -timeout 0 .) || exit 1; \
	done

$(COMPOSE_PLUGIN):
	@echo "building docker compose $(COMPOSE_VERSION) for the tests, once (a minute or two)"
	@mkdir -p $(@D); dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; cd "$$dir" && \
	{ $(GO) mod init scratch && $(GO) get github.com/docker/compose/v2/cmd@$(COMPOSE_VERSION) && \
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X github.com/docker/compose/v2/internal.Version=$(COMPOSE_VERSION)' \
		-o '$(CURDIR)/$@.part' github.com/docker/compose/v2/cmd; } >log 2>&1 && mv '$(CURDIR)/$@.part' '$(CURDIR)/$@' || { tail -5 log; exit 1; }

plugin:
	@! docker version >/dev/null 2>&1 || nice -n 19 $(MAKE) --no-print-directory $(COMPOSE_PLUGIN) || echo "no docker compose plugin: its tests skip, or fail with E2E_REQUIRED=1"

e2e: plugin ## the quickstart and every promise about the images, on Docker (skips without it)
	.ci/tests $(GO) test -tags e2e -count=1 -timeout 40m ./e2e/...

# Unit tests mostly wait: the plugin is built meanwhile.
test: ## everything
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory -j2 unit plugin
	@$(MAKE) --no-print-directory cross
	@$(MAKE) --no-print-directory e2e

bench: ## us and the peers in turn (Redis, scs, gorilla): ratios, and docs/benchmarks.md
	cd bench && $(GO) run . -page ../docs/benchmarks.md

bench-long: ## the same with longer turns and a million sessions
	cd bench && $(GO) run . -long -page ../docs/benchmarks.md

clean: ## remove dist/ (.dev with the development key stays)
	rm -rf dist

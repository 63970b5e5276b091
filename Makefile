# The commands of this project. The work is done in Go: docker/build, cmd/, e2e/.

GO          ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2

# A local engine publishes ports on this machine; without this, testcontainers
# would ask for a helper image and for the gateway's address.
export TESTCONTAINERS_RYUK_DISABLED ?= true
ifeq ($(DOCKER_HOST)$(TESTCONTAINERS_HOST_OVERRIDE),)
export TESTCONTAINERS_HOST_OVERRIDE := 127.0.0.1
endif

.DEFAULT_GOAL := help
.PHONY: help up up-local down images kit check unit cross torture e2e test bench bench-long clean

help: ## show this list
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  \1#\2/p' Makefile | while IFS='#' read -r name about; do printf '  %-12s %s\n' "$$name" "$$about"; done
	@echo "Variables: RELEASE=1 (images, kit: refuse development keys), TERRACOTTA_PORT, MANAGEMENT_PORT, CART1_PORT, CART2_PORT (up, up-local)"

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
	@bin/demo up --data .dev/local --license .dev/license.xml --trusted-keys .dev/trusted

images: ## build the kit and the three images
	@$(GO) run ./docker/build images

kit: ## make dist/terracotta-db-VERSION with static binaries for Linux
	@$(GO) run ./docker/build kit

check: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "gofmt these:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e ./e2e/...
	cd bench && $(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) run $(STATICCHECK) -tags e2e ./e2e/...

unit: ## all tests that need no Docker, with the race detector
	$(GO) test -race -shuffle=on -timeout 15m ./...
	cd bench && $(GO) test ./...

cross: ## everything compiles for every platform that a release is built for
	CROSS=1 $(GO) test -count=1 -timeout 30m -run TestReleasesCrossCompile .

torture: ## 100 rounds of kill -9 under load, 100 seeds of a disk that forgets (SEED=N: that one again)
	$(GO) test -race -count=1 -timeout 30m -run '$(if $(SEED),,TestKill|)TestForgetfulDisk' ./internal/stripe -kills 100 -seeds 100 $(if $(SEED),-seed $(SEED))

e2e: ## the quickstart and every promise about the images, on Docker (skips without it)
	$(GO) test -tags e2e -count=1 -timeout 12m ./e2e/...

test: check unit cross e2e ## everything

bench: ## us and the peers in turn (Redis, scs, gorilla): ratios, and docs/benchmarks.md
	cd bench && $(GO) run . -page ../docs/benchmarks.md

bench-long: ## the same with longer turns and a million sessions
	cd bench && $(GO) run . -long -page ../docs/benchmarks.md

clean: ## remove dist/ (.dev with the development key stays)
	rm -rf dist

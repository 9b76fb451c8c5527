# smtpseal. `make test` proves everything, and installs on Debian what it needs
# for that (as root, or by sudo); `make help` lists the rest.

GO      ?= go
FUZZ    ?= 3s
VULNDB  ?= https://vuln.go.dev

.PHONY: help build test race lint vuln cross fuzz bench package release clean tools image

help:
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST)

build: ## bin/smtpseal, static and without debug data
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/smtpseal ./cmd/smtpseal

image: ## bin/smtpseal-image.tar, the container image, for docker load
	@mkdir -p bin
	$(GO) run ./deploy/container -o bin/smtpseal-image.tar

tools: ## what the tests need: Postfix in a cache of ours, curl, swaks, openssl
	./test/install.sh

test: tools lint cross fuzz race ## everything that CI asks for

race: ## the tests, with the race detector and in random order
	$(GO) test -race -shuffle=on -timeout 12m ./...

lint: ## go vet, staticcheck, gofmt, known vulnerabilities
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	@$(MAKE) --no-print-directory vuln

# A database that cannot be asked is no finding: govulncheck ends with 3 for a
# vulnerability and with 1 for everything else.
vuln: ## known vulnerabilities in what we call (VULNDB=file:///… for a copy)
	@$(GO) tool govulncheck -db $(VULNDB) ./... || { test $$? -ne 3 || exit 3; \
		echo "make vuln: the database could not be asked, so nothing is known (VULNDB=file:///… for a copy)"; }

# With -trimpath, as releases are, so that their test need not compile it again.
cross: ## the program compiles for the other systems
	GOOS=darwin $(GO) build -trimpath -o /dev/null ./cmd/smtpseal
	GOOS=windows $(GO) build -trimpath -o /dev/null ./cmd/smtpseal

fuzz: ## every fuzz target for FUZZ=3s
	@GO=$(GO) ./test/fuzz.sh $(FUZZ)

bench: ## beside a naive proxy and HAProxy; takes long, wants a quiet machine
	$(GO) run ./test/bench

package: ## dist/*.deb and *.rpm for this processor (GOARCH=arm64 for another)
	@GO=$(GO) ./deploy/packages/build.sh

release: ## dist/: archives, packages, SBOMs and checksums (PLATFORMS="linux/arm64 …")
	@GO=$(GO) ./deploy/release/build.sh $(PLATFORMS)

clean: ## what make has made
	rm -rf bin dist .cache

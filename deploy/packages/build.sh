#!/bin/sh
# Makes smtpseal's .deb and .rpm, the same octets from the same source:
#
#     build.sh [PROGRAM]       for the processor in GOARCH, default this machine's
#
# PROGRAM is built if it is not given. OUT (dist) is where they go, VERSION what
# they are called (default: what the program says), SOURCE_DATE_EPOCH their time
# (default: the commit's), MAINTAINER who answers for them, as NAME <MAIL>.
set -eu
umask 022
export LC_ALL=C TZ=UTC0
cd "$(dirname "$0")/../.."
: "${GO:=go}" "${OUT:=dist}" "${MAINTAINER:=The smtpseal authors <smtpseal@localhost>}"
ARCH=$($GO env GOARCH)
export GOOS='' GOARCH='' # of all that runs here
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
trap 'exit 1' HUP INT TERM

if [ $# -gt 0 ]; then
	install -m 755 "$1" "$tree/smtpseal"
else
	CGO_ENABLED=0 GOOS=linux GOARCH=$ARCH $GO build -trimpath -ldflags "-s -w" -o "$tree/smtpseal" ./cmd/smtpseal
fi

# The nested module keeps nfpm's dependencies out of ours.
nfpm=$PWD/.cache/bin/nfpm
$GO -C test/tools build -o "$nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm

# Manual, completions and licences: by the program itself, or where this machine
# cannot run it, by one of the same source.
$GO run ./deploy/release documents -o "$tree" "$tree/smtpseal"
VERSION=${VERSION:-$($GO run ./deploy/release version "$tree/smtpseal")}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
# v1.2.3-rc.1 is before 1.2.3 for dpkg and rpm if it is written 1.2.3~rc.1.
PACKAGE_VERSION=$(echo "$VERSION" | sed 's/^v//; s/-/~/; s/-/./g')
gzip -9n "$tree"/man/*
gzip -9nc "$tree/third-party-licences" >"$tree/third-party-licences.gz"
gzip -9nc CHANGELOG.md >"$tree/changelog.gz"
cat >"$tree/changelog.yaml" <<END
- semver: $PACKAGE_VERSION-1
  date: $(date -ud "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
  packager: $MAINTAINER
  deb: {urgency: medium, distributions: [unstable]}
  changes:
    - note: "New version: changelog.gz says what is new."
END

mkdir -p "$OUT"
export SOURCE_DATE_EPOCH
sed "s|\${TREE}|$tree|; s|\${ARCH}|$ARCH|; s|\${VERSION}|$PACKAGE_VERSION|; s|\${MAINTAINER}|$MAINTAINER|" deploy/packages/nfpm.yaml >"$tree/nfpm.yaml"
for kind in deb rpm; do
	"$nfpm" package --config "$tree/nfpm.yaml" --packager $kind --target "$OUT" >"$tree/said" || {
		cat "$tree/said" >&2 # errors, too, come that way
		exit 1
	}
done

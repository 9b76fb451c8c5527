#!/bin/sh
# Makes in dist/ all that is published of a version: for each platform, as
# linux/arm64, an archive and its SBOM, for Linux packages, too, and checksums.
# The same commit makes the same octets, wherever it lies on a disk. A version is
# what git says: a tag on the commit, or the commit's own time and name; a work
# tree that is not clean makes +dirty of it. OUT is another directory than dist.
set -eu
umask 022
cd "$(dirname "$0")/../.."
: "${GO:=go}" "${OUT:=dist}" "${WORK:=.cache/release}" "${BUILDVCS:=true}"
export OUT
[ $# -gt 0 ] || set -- linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64
rm -rf "$OUT" "$WORK"

for platform; do
	os=${platform%/*} arch=${platform#*/} name=smtpseal
	[ "$os" != windows ] || name=smtpseal.exe
	CGO_ENABLED=0 GOOS=$os GOARCH=$arch $GO build -buildvcs="$BUILDVCS" -trimpath -ldflags "-s -w" -o "$WORK/$os-$arch/$name" ./cmd/smtpseal
	program=$WORK/$os-$arch/$name documents=$WORK/$os-$arch/documents
	$GO run ./deploy/release documents -o "$documents" "$program"
	$GO run ./deploy/release archive -o "$OUT" -documents "$documents" "$program"
	[ "$os" != linux ] || GOARCH=$arch ./deploy/packages/build.sh "$program"
done
$GO run ./deploy/release sums "$OUT"

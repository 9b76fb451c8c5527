#!/bin/sh
# Makes in dist/ all that is published of a version: for each platform, as
# linux/arm64, an archive and its SBOM, for Linux packages, too, and checksums.
# The same commit makes the same octets, wherever it lies on a disk. A version is
# what git says: a tag on the commit, or the commit's own time and name; a work
# tree that is not clean makes +dirty of it.
set -eu
umask 022
cd "$(dirname "$0")/../.."
: "${GO:=go}"
[ $# -gt 0 ] || set -- linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64
work=.cache/release
rm -rf dist "$work"

for platform; do
	os=${platform%/*} arch=${platform#*/} name=smtpseal
	[ "$os" != windows ] || name=smtpseal.exe
	CGO_ENABLED=0 GOOS=$os GOARCH=$arch $GO build -buildvcs=true -trimpath -ldflags "-s -w" -o "$work/$os-$arch/$name" ./cmd/smtpseal
	program=$work/$os-$arch/$name documents=$work/$os-$arch/documents
	$GO run ./deploy/release documents -o "$documents" "$program"
	$GO run ./deploy/release archive -o dist -documents "$documents" "$program"
	[ "$os" != linux ] || GOARCH=$arch ./deploy/packages/build.sh "$program"
done
$GO run ./deploy/release sums dist

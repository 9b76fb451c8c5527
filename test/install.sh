#!/bin/sh
# Gets what the tests run and this machine lacks; does nothing, and says
# nothing, when all is there. Debian and its children only.
#
# Clients (curl, swaks, openssl) and what the race detector needs of C are
# installed with apt. Servers (Postfix and Cyrus SASL, Exim, BIND, Redis,
# PostgreSQL, Prometheus, fail2ban) are only unpacked, into .cache/debian of the
# working tree: a server that is installed is also started and enabled, and no
# test may do that to a machine. So are Chromium, which would bring a desktop's
# menus along, lintian, which would bring half of Perl, and rpm.
# `rm -rf .cache` undoes it.
set -eu
umask 022
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

cache=$(cd "$(dirname "$0")/.." && pwd)/.cache
unpacked="postfix sasl2-bin libsasl2-2 libsasl2-modules libsasl2-modules-db bind9 redis-server postgresql-15 chromium-headless-shell libnss-wrapper exim4-daemon-heavy prometheus fail2ban lintian rpm"
clients="curl swaks openssl"

fail() {
	echo "test/install.sh: $1" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo -n "$@" || fail "needs root for \"$*\": run test/install.sh once as root"
	else
		fail "needs root for \"$*\" and there is no sudo: run test/install.sh once as root"
	fi
}

# quietly shows what a command printed only if it failed.
quietly() {
	"$@" >"$log" 2>&1 || {
		cat "$log" >&2
		fail "\"$*\" failed: mend it (network? apt sources?) and run test/install.sh again"
	}
}

# The clients, and the module without which swaks has no TLS.
missing=
for client in $clients; do
	command -v "$client" >/dev/null || missing="$missing $client"
done
perl -MNet::SSLeay -e 1 2>/dev/null || missing="$missing libnet-ssleay-perl"
command -v systemd-analyze >/dev/null && command -v systemd-socket-activate >/dev/null || missing="$missing systemd"
command -v "${CC:-gcc}" >/dev/null && [ -e /usr/include/stdlib.h ] || missing="$missing gcc libc6-dev"

# The stamp names what was unpacked for which system, so that a working tree
# shared by two systems does not run the one's programs on the other.
# shellcheck disable=SC1091
system=$(. /etc/os-release 2>/dev/null && echo "$ID ${VERSION_ID:-rolling} $(uname -m): $unpacked") || system=
have=$(cat "$cache/debian/.complete" 2>/dev/null) || have=
[ -z "$missing" ] && [ -n "$have" ] && [ "$have" = "$system" ] && exit 0

command -v apt-get >/dev/null || fail "there is no apt-get: install$missing by your own means, and unpack $unpacked into $cache/debian, then write \"$system\" into $cache/debian/.complete"

mkdir -p "$cache"
work=$(mktemp -d "$cache/install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
log=$work/log

quietly as_root apt-get update
if [ -n "$missing" ]; then
	# shellcheck disable=SC2086
	quietly as_root apt-get install -y --no-install-recommends $missing
fi
[ "$have" = "$system" ] && exit 0

# What apt would install along with them is what this machine lacks of their
# libraries; what it would not is here already.
# Exim and Postfix cannot be installed together, so each is asked for alone.
along=$(for one in $unpacked; do
	apt-get install -s --no-install-recommends "$one" 2>/dev/null
done | sed -n 's/^Inst \([^ ]*\).*/\1/p')
mkdir "$work/archives" "$work/root"
cd "$work/archives"
# shellcheck disable=SC2086
quietly apt-get download $(printf '%s\n' $unpacked $along | sort -u)
for archive in *.deb; do
	quietly dpkg -x "$archive" "$work/root"
done
chmod u-s "$work/root/usr/sbin/exim4" # a tree of tests is no place for a way to root
cd "$cache"
echo "$system" >"$work/root/.complete"
rm -rf debian
mv "$work/root" debian

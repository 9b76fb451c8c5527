#!/bin/sh
# Runs every fuzz target of the module for the time given, one after the other.
# On a busy machine go's fuzzer can end with "context deadline exceeded" and
# nothing else, when its time is over before its workers are:
# that is no finding, since a finding is written into a file, and it says so.
set -eu
time=${1:-10s}
go=${GO:-go}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for dir in $(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$dir"/*_test.go | sort -u); do
		echo "fuzz $dir $target for $time"
		$go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$dir" >"$log" 2>&1 && {
			tail -n 1 "$log"
			continue
		}
		cat "$log"
		grep -q '^    context deadline exceeded$' "$log" && ! grep -q 'Failing input\|panic:\|_test.go:' "$log" || exit 1
		echo "fuzz: its time was over before its workers were; no finding"
	done
done

# Runs one Postfix in the directory $1 until standard input ends, then ends it
# and removes the directory. Run by root. That is all that needs root: when the
# test that started it is killed, its end of the pipe closes, and Postfix goes.
#
# $2: where the packages are unpacked   $3: owner of the queue   $4: group of
# the submission folders                $5: owner of the mail
set -eu
dir=$1 root=$2 owner=$3 group=$4 recipient=$5

cd "$dir/queue"
mkdir -p active bounce corrupt defer deferred flush hold incoming maildrop pid private public saved trace
chmod 700 active bounce corrupt defer deferred flush hold incoming private saved trace
chmod 730 maildrop
chmod 710 public
chown -R "$owner" . "$dir/data"
chown root . pid
chgrp "$group" maildrop public
chown "$recipient" "$dir/mail"
chown -R root "$dir/conf" # Postfix trusts no other owner
chmod -R go-w "$dir/conf"

# -d: stay in the foreground. setsid: master ends its children by its process
# group, so it must lead one.
LD_LIBRARY_PATH=$6 SASL_PATH=$7 MAIL_CONFIG=$dir/conf \
	setsid "$root/usr/lib/postfix/sbin/master" -d -c "$dir/conf" </dev/null >>"$dir/log" 2>&1 &
master=$!

# A master that gives up at once (a port is taken) must not be waited for.
while kill -0 "$master" 2>/dev/null && ! grep -q 'daemon started' "$dir/log"; do
	sleep 0.02
done
if kill -0 "$master" 2>/dev/null; then
	echo started
	read -r _ || :
fi

kill -TERM "$master" 2>/dev/null || :
wait "$master" 2>/dev/null || :
tries=0
while kill -0 -- "-$master" 2>/dev/null; do
	tries=$((tries + 1))
	[ "$tries" -lt 250 ] || kill -KILL -- "-$master"
	sleep 0.02
done
trap '' PIPE       # the test may be dead
cat "$dir/log" || : # what it may still want to show
cd /
rm -rf -- "${dir:?}"

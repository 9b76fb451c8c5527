#!/bin/sh
# A throw-away copy of this machine, with systemd: everything written in it is in
# memory, and it ends when standard input does. The network is this machine's.
#
#     machine.sh DIR CACHE     DIR: empty; CACHE is seen inside as /mnt
#
# Needs root, in a mount namespace of its own. Its first line of output is the
# process by which the machine ends.
set -eu
dir=$1

inside() {
	cd "$dir"
	mkdir upper work root
	mount -t overlay overlay -o "lowerdir=/,upperdir=upper,workdir=work" root
	mount -t proc proc root/proc
	mount --bind root/proc/sys root/proc/sys # what is set there is set for this machine
	mount -o remount,bind,ro root/proc/sys
	for place in run tmp dev sys; do
		mount -t tmpfs tmpfs root/$place
	done
	mkdir -p root/sys/fs/cgroup root/dev/shm root/dev/pts
	mount -t cgroup2 cgroup2 root/sys/fs/cgroup
	mount -t devpts -o newinstance,ptmxmode=0666 devpts root/dev/pts
	ln -s pts/ptmx root/dev/ptmx
	for node in null zero full random urandom tty; do
		touch root/dev/$node
		mount --bind /dev/$node root/dev/$node
	done
	ln -s /proc/self/fd root/dev/fd
	mount --rbind "$cache" root/mnt
	# As if nobody had ever installed smtpseal here.
	chroot root dpkg --purge --force-all smtpseal >/dev/null 2>&1 || :
	rm -rf root/var/lib/smtpseal root/etc/smtpseal root/run/systemd
	sed -i /^smtpseal:/d root/etc/passwd root/etc/group root/etc/shadow root/etc/gshadow
	# Nothing starts but what the test does, and above all nothing that means the
	# machine itself: its disks, its kernel, its clock.
	rm -rf root/etc/systemd/system root/etc/fstab root/etc/crypttab root/usr/sbin/policy-rc.d
	mkdir root/etc/systemd/system
	for unit in systemd-modules-load modprobe@ systemd-sysctl systemd-remount-fs systemd-update-utmp systemd-udevd \
		systemd-udev-trigger systemd-timesyncd systemd-random-seed systemd-binfmt systemd-hwdb-update; do
		ln -s /dev/null root/etc/systemd/system/$unit.service
	done
	ln -s /dev/null root/etc/systemd/system/systemd-journald-audit.socket
	exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		chroot root /lib/systemd/systemd --unit=sysinit.target --log-target=null
}

cache=$2
[ "${3-}" != inside ] || inside

mount -t tmpfs tmpfs "$dir"
mkdir "$dir/groups"
mount -t cgroup2 cgroup2 "$dir/groups"
before=$dir/groups$(sed -n 's/^0:://p' /proc/self/cgroup)
group=$dir/groups/smtpseal-test-$$
mkdir "$group"
echo $$ >"$group/cgroup.procs"
unshare --cgroup --ipc --uts --pid --fork --kill-child sh "$0" "$dir" "$cache" inside </dev/null >&2 &
init=$!
echo $$ >"$before/cgroup.procs"
echo $init
read -r _ || :
kill -9 $init || :
wait $init 2>/dev/null || :
# The last of its processes may still be going.
for _ in 1 2 3 4 5 6 7 8 9 10; do
	! find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || exit 0
	sleep 0.2
done
echo "$group is not empty" >&2
exit 1

#!/bin/sh
# Boots systemd as process 1 of its own space of processes and files, of which nothing is kept and nothing reaches out:
# its root is in memory, with what it needs of this system to be read.
#
#   unshare --pid --mount --cgroup --fork --kill-child systemd.sh FOLDER
#
# FOLDER is seen inside at /test; FOLDER/units are units of it. Beside them it has targets alone.
set -eu
mount --make-rprivate /
root=/mnt
program=$(dirname "$(readlink -f "$1/gateway")")
mount -t tmpfs tmpfs "$root"
cd "$root"
mkdir -p dev proc sys run tmp var/lib var/log var/tmp old root home srv test ".$program"

for path in bin sbin lib lib64; do
    if [ -L "/$path" ]; then cp -a "/$path" .; elif [ -d "/$path" ]; then mkdir "$path"; mount --bind "/$path" "$path"; fi
done
mkdir usr etc
mount --bind -o ro /usr usr
mount --bind -o ro /etc etc
mount --bind -o ro "$program" ".$program"
mount --bind "$1" test

mkdir -p units
cp /usr/lib/systemd/system/*.target units/
mount --bind units usr/lib/systemd/system
mount -t tmpfs tmpfs etc/systemd
mkdir -p etc/systemd/system
cp -r test/units/. etc/systemd/system/
printf '[Unit]\nDescription=As little as there can be\n' >etc/systemd/system/test.target

for node in null zero full random urandom tty; do : >"dev/$node"; mount --bind "/dev/$node" "dev/$node"; done
mkdir dev/shm
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 none sys/fs/cgroup
pivot_root . old
umount -l /old
cd /
export container=private
exec /usr/lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no </dev/null

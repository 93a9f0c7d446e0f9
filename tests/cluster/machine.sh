#!/usr/bin/env bash
# The first process of a machine, in namespaces of its own: what makes it a machine, then its sshd.
#
#   machine.sh NAME SCRATCH PYTHON CLOSED      run by machines.py, as root, under unshare
set -euo pipefail
name=$1 scratch=$2 python=$3 closed=$4
here=$scratch/machines/$name

mount --make-rprivate /
mount --bind "$python" "$scratch/python"
for packages in "$scratch"/packages-[0-9]; do
  mount --bind "$(cat "$packages.from")" "$packages"
done
mount --bind "$here/home" "$scratch/home"
# This Python finds its library where it was built. Where a folder above it is closed to ordinary
# users (root's home), an open one takes its place, with nothing in it but that Python.
if [ -n "$closed" ]; then
  mount -t tmpfs -o mode=755 tmpfs "$closed"
  mkdir -p "$python"
  mount --bind "$scratch/python" "$python"
fi
mount --bind "$scratch/etc/passwd" /etc/passwd
mount --bind "$scratch/etc/shadow" /etc/shadow
mount --bind "$scratch/etc/group" /etc/group
mount --bind "$here/hosts" /etc/hosts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount --bind "$here/tmp" /tmp
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd
hostname "$name"

/usr/sbin/sshd -D -e -f "$here/sshd_config" 2>"$here/sshd.log" &
wait # and reap whatever daemons leave behind

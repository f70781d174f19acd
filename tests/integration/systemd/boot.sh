#!/bin/bash
# Process 1 to be of a rig (rig.py says of what): makes the root, enters it and becomes systemd.
# boot.sh FOLDER LOWER NVML TARGET [HWMON]. FOLDER is a tmpfs that outlives a reboot, LOWER the layers of the root with `:`
# between them, NVML the double's state, TARGET what to boot, HWMON the tree of a chip,
# which appears in place of /sys/firmware.
set -eu
folder=$1 root=$1/root
mount --make-rprivate /
mkdir -p "$folder/upper" "$folder/work" "$root"
mount -t overlay rig -o "lowerdir=$2,upperdir=$folder/upper,workdir=$folder/work" "$root"
mount -t proc proc "$root/proc"
# The kernel's settings are the host's.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
if [ -n "${5-}" ]; then
    mount --bind "$5" "$root/sys/firmware"
fi
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 dev "$root/dev"
while read -r name minor major; do
    mknod -m 666 "$root/dev/$name" c "${major:-1}" "$minor"
done <<NODES
null 3
zero 5
full 7
random 8
urandom 9
tty 0 5
NODES
if [ ! -e "$folder/no-driver" ]; then
    mknod -m 666 "$root/dev/nvidiactl" c 195 255
    mknod -m 666 "$root/dev/nvidia0" c 195 0
    mknod -m 666 "$root/dev/nvidia1" c 195 1
fi
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
# In /dev, where a sandboxed service may write, as to a card.
touch "$root/dev/nvml-double"
mount --bind "$3" "$root/dev/nvml-double"
mount -t tmpfs -o mode=755 run "$root/run"
ip link set lo up
hostname rig
cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
# As nspawn does it: systemd mounts the credentials of a unit in another namespace.
mount --make-rshared /
# What reaches the host's kernel is kept out of reach. CAP_SYS_ADMIN stays: DevicePolicy= is a BPF program.
exec env -i container=rig PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set -sys_module,-sys_rawio,-sys_time,-syslog,-mac_admin,-mac_override \
    /lib/systemd/systemd --system "--unit=$4" --log-target=journal --show-status=0 </dev/null

# Runs as pid 1 of a machine's new namespaces, with the host's folders still in sight: builds the machine's private root,
# moves into it and goes on with the command given. Arguments:
#   ROOT SKELETON FSTAB ROOT_OWNER USER_OWNER GATEWAY_LINK SETTINGS COMMAND…
# ROOT_OWNER owns the files of the root, USER_OWNER the user's folders; empty: nothing to change. GATEWAY_LINK is where
# /run/mobvibe leads to; empty: it is no link. SETTINGS are shell words for what is not a file: host name, network.
set -eu
root=$1 skeleton=$2 fstab=$3 root_owner=$4 user_owner=$5 gateway_link=$6 settings=$7
shift 7

mount -n -t tmpfs -o size=8m,mode=755,nosuid,nodev tmpfs "$root"
cp -a "$skeleton/." "$root"
[ -z "$root_owner" ] || chown -hR "$root_owner" "$root"
mount -n -a -T "$fstab"
[ -z "$user_owner" ] || chown "$user_owner" "$root/workspace" "$root/home/user"
[ -z "$gateway_link" ] || ln -s "$gateway_link" "$root/run/mobvibe"
eval "$settings"
mount -n -o remount,bind,ro,nosuid,nodev "$root"

# Never chroot: a process that enters the mount namespace later would land in the host's root.
cd "$root"
pivot_root . .
umount -n -l .
cd /
exec "$@"

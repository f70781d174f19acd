#!/bin/sh
# Runs after an install or an upgrade (dpkg: configure, rpm: 1 or 2), and after a change of /usr/bin/python3 (triggered).
set -e
case "$1" in configure | triggered | 1 | 2) ;; *) exit 0 ;; esac

settings=/etc/gpufan/config.toml
if [ -e $settings.dpkg-bak ]; then mv $settings.dpkg-bak $settings; fi # see preinst.sh
rm -f $settings.kept                                                   # see prerm.sh

site=/usr/lib/gpufan/lib/python3/site-packages
python=/usr/lib/gpufan/bin/python3
tag=$("$python" -I -c 'import sys; print(sys.implementation.cache_tag)' || true)
# A change of Python within a minor version needs nothing.
if [ "$1" = triggered ] && [ -e "$site/gpufan/__pycache__/__init__.$tag.pyc" ]; then exit 0; fi

# Without compiled code a start takes longer; nothing else depends on it. With -j0 it needs /dev/shm. On a full disk
# Python may leave parts of files, which it would then import.
compile() { "$python" -I -m compileall -q "$@" "$site" >/dev/null 2>&1; }
compile -j0 || compile || find "$site" -name __pycache__ -prune -exec rm -r {} +

if ! /usr/lib/gpufan/bin/gpufan --version >/dev/null; then
    echo "A service that runs goes on until the next restart; then the driver controls the fans." >&2
    exit 0
fi

# Whether the unit $1 runs this package, and not a gpufan that was installed from elsewhere.
is_ours() {
    case "$(systemctl show --property=ExecStart "$1")" in */usr/lib/gpufan/*) ;; *) return 1 ;; esac
}

if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
    state=stopped
    for path in /usr/lib/systemd/system/gpufan*.service; do
        unit=${path##*/}
        # With a time limit: while the driver is not loaded, the service waits for it.
        if is_ours "$unit" && ! timeout 30 systemctl try-restart "$unit"; then
            case $unit in
                gpufan.service) state=failed meanwhile="until it does, the driver controls the fans" ;;
                *) meanwhile="the fans do not depend on it" ;;
            esac
            echo "$unit does not start; $meanwhile; see: journalctl -u $unit" >&2
        fi
    done
    if systemctl --quiet is-active gpufan.service; then state=active; fi
    if is_ours gpufan.service; then
        if [ $state != stopped ]; then exit 0; fi
        if systemctl --quiet is-enabled gpufan.service; then
            echo "gpufan.service stays stopped. To control the fans: sudo systemctl start gpufan"
            exit 0
        fi
    fi
fi
# A gpufan that was installed from elsewhere is found first.
command=gpufan
[ ! -e /usr/local/bin/gpufan ] || command=/usr/bin/gpufan
echo "gpufan is installed, and nothing is started yet. To control the fans: sudo $command install-service"

#!/bin/sh
# Runs after an install or an upgrade (dpkg: configure, rpm: 1 or 2), and after a change of /usr/bin/python3 (triggered).
set -e
case "$1" in configure | triggered | 1 | 2) ;; *) exit 0 ;; esac

# See preinst.sh.
if [ -e /etc/gpufan/config.toml.dpkg-bak ]; then mv /etc/gpufan/config.toml.dpkg-bak /etc/gpufan/config.toml; fi

site=/usr/lib/gpufan/lib/python3/site-packages
python=/usr/lib/gpufan/bin/python3
tag=$("$python" -I -c 'import sys; print(sys.implementation.cache_tag)' || true)
# A change of Python within a minor version needs nothing.
if [ "$1" = triggered ] && [ -e "$site/gpufan/__pycache__/__init__.$tag.pyc" ]; then exit 0; fi

# Without compiled code a start takes longer; nothing else depends on it.
"$python" -I -m compileall -q -j0 "$site" >/dev/null || true

if ! "$python" -I -m gpufan --version >/dev/null; then
    echo "gpufan does not work with the Python of this system: install a newer package of gpufan." >&2
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
        if is_ours "$unit" && ! systemctl try-restart "$unit"; then
            echo "$unit does not start, and gpufan leaves the fans to the driver; see: journalctl -u $unit" >&2
            state=failed
        fi
    done
    if systemctl --quiet is-active gpufan.service; then state=active; fi
    if is_ours gpufan.service && { [ $state = active ] || systemctl --quiet is-enabled gpufan.service; }; then
        if [ $state = stopped ]; then
            echo "gpufan.service stays stopped. To control the fans: sudo systemctl start gpufan"
        fi
        exit 0
    fi
fi
# A gpufan that was installed from elsewhere is found first.
command=gpufan
[ ! -e /usr/local/bin/gpufan ] || command=/usr/bin/gpufan
echo "gpufan is installed, and nothing is started yet. To control the fans: sudo $command install-service"

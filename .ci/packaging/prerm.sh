#!/bin/sh
# Runs before a removal (dpkg: remove, rpm: 0), and in the old version before an upgrade (dpkg) or after it (rpm: 1).
set -e
unit=/etc/systemd/system/gpufan.service
settings=/etc/gpufan/config.toml
case "$1" in
    remove | 0)
        if [ -f $unit ] && ! grep -q /usr/lib/gpufan/ $unit; then
            # A service that was installed from elsewhere goes on. Its settings file belongs to the package: see postrm.sh.
            if [ -e $settings ]; then cp --preserve=mode,ownership $settings $settings.kept; fi
        elif [ -d /run/systemd/system ]; then
            # This gives back the fans, the display manager and all else that install-service has changed.
            /usr/bin/gpufan uninstall-service || true
            # This ends the units even if install-service was not used, or has failed.
            for path in /usr/lib/systemd/system/gpufan*.service; do
                name=${path##*/}
                if [ -e "$path" ]; then systemctl disable --quiet --now "$name" || systemctl stop "$name"; fi
            done
        fi
        ;;
    1) exit 0 ;; # the compiled code is that of the new version
esac
# Somebody may have removed it by hand.
if [ -d /usr/lib/gpufan ]; then find /usr/lib/gpufan -name __pycache__ -prune -exec rm -r {} +; fi

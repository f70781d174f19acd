#!/bin/sh
# Runs before a removal (dpkg: remove, rpm: 0), and in the old version before an upgrade.
set -e
case "$1" in
    remove | 0)
        case "$(systemctl show --property=ExecStart gpufan.service 2>/dev/null || true)" in
            */usr/lib/gpufan/*)
                # This gives back the fans, the display manager and all else that install-service has changed.
                /usr/bin/gpufan uninstall-service || true
                # This ends the units even if install-service was not used, or has failed.
                cd /usr/lib/systemd/system
                systemctl disable --quiet --now gpufan*.service
                ;;
        esac
        ;;
esac
# Somebody may have removed it by hand.
if [ -d /usr/lib/gpufan ]; then find /usr/lib/gpufan -name __pycache__ -prune -exec rm -r {} +; fi

#!/bin/sh
# Runs after a removal, and after a purge (dpkg only), which also removes settings, history and learnt data.
set -e
case "$1" in
    abort-install | abort-upgrade | remove | purge) # after an install that failed or was killed, see preinst.sh
        if [ -e /etc/gpufan/config.toml.dpkg-bak ]; then mv /etc/gpufan/config.toml.dpkg-bak /etc/gpufan/config.toml; fi
        ;;
esac
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
# A service that was installed from elsewhere keeps its data, but dpkg itself removes the settings file.
if [ "$1" = purge ] && [ ! -e /etc/systemd/system/gpufan.service ]; then
    rm -rf /etc/gpufan /var/lib/gpufan /var/lib/private/gpufan /var/lib/gpufan-install
fi

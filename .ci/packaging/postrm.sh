#!/bin/sh
# Runs after a removal (dpkg: remove, rpm: 0), and after a purge (dpkg only), which also removes settings, history and
# learnt data.
set -e
unit=/etc/systemd/system/gpufan.service
settings=/etc/gpufan/config.toml
last_good=/var/lib/gpufan/last-good-settings.json
umask 022
case "$1" in
    abort-install | abort-upgrade | remove | purge) # after an install that failed or was killed, see preinst.sh
        if [ -e $settings.dpkg-bak ]; then mv $settings.dpkg-bak $settings; fi
        ;;
esac
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
case "$1" in purge | 0) ;; *) exit 0 ;; esac

if [ -f $unit ] && ! grep -q /usr/lib/gpufan/ $unit; then
    # A service that was installed from elsewhere keeps its data. By now dpkg or rpm has removed its settings file: the
    # newest copy is that of prerm.sh, or of the service itself if the settings were changed after a removal.
    if [ ! -e $settings ]; then
        mkdir -p /etc/gpufan
        text_of='import json, sys; sys.stdout.buffer.write(json.load(open(sys.argv[1], "rb"))["text"].encode())'
        newest=$(ls -t $settings.kept $last_good 2>/dev/null | head -n 1)
        if [ "$newest" = $last_good ] && python3 -I -c "$text_of" $last_good >$settings.new; then
            mv $settings.new $settings
        elif [ -e $settings.kept ]; then
            mv $settings.kept $settings
        fi
        if [ -e $settings ]; then echo "$settings stays, since $unit uses it"; fi
    fi
    rm -f $settings.kept $settings.new
elif [ "$1" = purge ]; then
    rm -f /etc/gpufan/alerts.toml # it has secrets, and the folder may be a link
    rm -rf /etc/gpufan /var/lib/gpufan /var/lib/private/gpufan /var/lib/gpufan-install
fi

#!/bin/sh
# Runs in a .deb before its files are unpacked. dpkg would ask about a settings file that it does not know, and would fail
# where it cannot ask. dpkg knows the file from the first install of the package on; if that was killed or removed, it may
# not. Such a file waits beside its place until postinst.sh.
set -e
known='/etc/gpufan/config.toml [0-9a-f]\{32\}'
case "$1" in install | upgrade) ;; *) exit 0 ;; esac
if [ -e /etc/gpufan/config.toml ] && ! dpkg-query -W -f='${Conffiles}' gpufan 2>/dev/null | grep -q "$known"; then
    mv /etc/gpufan/config.toml /etc/gpufan/config.toml.dpkg-bak
fi

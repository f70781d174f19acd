#!/bin/sh
# Runs in a .deb before its files are unpacked. dpkg would ask about a settings file that was there before the first
# install of the package, and would fail where it cannot ask. So the file waits beside its place until postinst.sh.
set -e
if [ "$1" = install ] && [ -z "$2" ] && [ -e /etc/gpufan/config.toml ]; then
    mv /etc/gpufan/config.toml /etc/gpufan/config.toml.dpkg-bak
fi

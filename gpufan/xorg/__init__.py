"""The X Window System: edit xorg.conf, run gpufan's own X server, and connect to X servers. `gpu/` has the cards."""

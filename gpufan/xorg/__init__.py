"""The X Window System: edit xorg.conf, run gpufan's own X server, and a small X client. Cards are in `gpu/`."""

"""X for drivers that set fans only through it: xorg.conf and what stands in it."""

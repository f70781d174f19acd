"""X without cards: reading and editing xorg.conf, our own X server, and a small X client."""

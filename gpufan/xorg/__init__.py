"""X: the configuration of a server, a server of our own without a screen, and the way to talk to one."""

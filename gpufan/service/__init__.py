"""Plan, install and uninstall gpufan as a systemd service."""

"""gpufan as a systemd service: plan, install and uninstall it."""

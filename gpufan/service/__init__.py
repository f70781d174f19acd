"""gpufan as a service of systemd: what is installed, what is put aside for it, and how all of it is taken back."""

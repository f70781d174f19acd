"""Values that all packages share: curves, PCI addresses, readings, card settings, snapshots. No I/O."""

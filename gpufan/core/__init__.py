"""Values that every room speaks: curves, PCI addresses, readings, card settings, snapshots. No I/O."""

"""Reads and sets cards: the backends `nvml`, `x11`, `auto` and `simulated`, and the choice between them."""

"""SENSE and ACT: the backends `nvml`, `x11`, `auto` and `simulated`, and the choice between them for the cards here."""

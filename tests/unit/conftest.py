"""Hypothesis for the unit tests: modest, the same on every run; `--hypothesis-profile=explore` looks for more."""

from hypothesis import settings

settings.register_profile("unit", max_examples=30, deadline=None, derandomize=True)
settings.register_profile("explore", max_examples=3000, deadline=None)
settings.load_profile("unit")

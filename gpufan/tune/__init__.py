"""Fits a model to a recorded card, and compares settings on the fitted model or on a simulated box."""

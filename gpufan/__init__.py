"""Fan control for NVIDIA cards on headless Linux."""

__version__ = "0.2.0"

"""Fan control for NVIDIA cards on headless Linux."""

__version__ = "0.1.0"

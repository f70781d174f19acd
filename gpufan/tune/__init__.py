"""Learn a card from a recording, and compare settings on it or on the simulated box."""

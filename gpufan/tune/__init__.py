"""Learns a card from a recording, and compares settings on the card so learnt or on a simulated box."""

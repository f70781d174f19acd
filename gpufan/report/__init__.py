"""REPORT: what was done and why, for people and programs. Nothing here touches a card."""

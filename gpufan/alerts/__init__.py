"""Sends messages to people when a card needs help. It is a process of its own. It reads only the snapshot."""

"""The settings file: its keys, what each key means, and which source of a setting wins."""

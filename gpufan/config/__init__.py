"""The settings file: its keys, its layers, and what each key means."""

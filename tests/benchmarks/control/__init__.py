"""The control benchmark: the target law on three families of cards; `__main__.py` describes it."""

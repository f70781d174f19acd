"""Control the cards: workers, the loop that runs them, messages to systemd, and `gpufan run` itself."""

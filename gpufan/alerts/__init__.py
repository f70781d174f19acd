"""Messages to people when a card needs help. A process of its own: it reads the snapshot, and never the driver."""

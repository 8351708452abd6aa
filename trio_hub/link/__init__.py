"""Floor 2: one WebSocket. Trio begins here."""

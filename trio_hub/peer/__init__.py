"""Floor 3: one peer, across its links."""

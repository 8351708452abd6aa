"""Floor 4: many peers, one process."""

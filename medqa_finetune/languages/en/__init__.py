"""English words that have keys."""

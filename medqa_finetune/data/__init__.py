"""From raw rows to pairs, and from pairs to train, validation and test sets."""

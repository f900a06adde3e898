"""From raw rows to examples, and from examples to train, validation and test sets."""

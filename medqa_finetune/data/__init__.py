"""Reads corpora into examples, divides them into train, validation and test sets, and tokenizes them."""

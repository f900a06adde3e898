"""Runs many experiments, each in its own process."""

"""Experiment trackers: what they are told of a run, and one file for each of them."""

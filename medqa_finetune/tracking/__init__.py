"""Experiment trackers: the row that each receives for a run, and one file per tracker."""

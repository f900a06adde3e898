"""Folders and files of runs and evaluations, and the only code that reads or writes them."""

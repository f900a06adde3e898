"""Cells in the queue of a cluster: one small interface to queues, SLURM behind it, and what runs a cell on a node."""

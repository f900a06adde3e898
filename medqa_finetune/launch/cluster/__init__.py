"""Cells on clusters, SLURM and Ray: one small interface to queues, and what runs a cell on a node."""

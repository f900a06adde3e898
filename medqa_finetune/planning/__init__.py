"""Estimates the time, memory, disk and money that a matrix will take, before it starts."""

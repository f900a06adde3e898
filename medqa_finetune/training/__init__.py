"""Trains a model on encoded examples."""

"""Generates predictions with a trained model, and scores them."""

"""Talking to what a run has trained, or to any model: one question, a list of them, or a conversation."""

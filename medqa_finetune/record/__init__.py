"""What a run leaves behind, and the only code that reads or writes it."""

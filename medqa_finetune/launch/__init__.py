"""Many experiments: each in a process of its own."""

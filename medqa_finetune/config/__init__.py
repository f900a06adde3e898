"""Settings of an experiment, their checks and identities; options of the commands."""

"""What an experiment is: typed settings, their checks, and what makes two runs the same run."""

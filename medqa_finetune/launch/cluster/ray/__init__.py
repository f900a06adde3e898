"""`hydra/launcher=ray`: a task for each cell, by this launcher itself or by a job for each cell that outlives it."""

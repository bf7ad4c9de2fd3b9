"""Training on a GPU: tokens a second, model FLOPs utilisation, parts of a step, memory against the estimate."""

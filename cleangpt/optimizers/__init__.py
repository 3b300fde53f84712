"""How a model learns: optimizers and schedules."""

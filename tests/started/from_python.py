"""Words and values of a training from Python that takes a moment."""

SMALL = ("model=llama_tiny", {"model.n_embd": 16, "dataset.digits": 1, "train.batch_size": 16, "dtype": "float32"})
SHORT = {"train.steps": 6, "train.eval_every": 3, "train.log_every": 1, "logger.plots": False}

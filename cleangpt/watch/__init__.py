"""A run while it goes on: what is seen and logged of it.

tracking.py    the console, train.log, metrics.jsonl and the bar
health.py      what a line of metrics.jsonl says of speed, memory, waiting and norms
loggers.py     TensorBoard, Weights & Biases, a CSV table
drawing.py     a process that renews the plots
plots.py       the plots of a run and of a score
profiling.py   a trace of a few steps, and where their time goes
"""

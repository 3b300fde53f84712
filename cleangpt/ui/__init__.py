"""A page in the browser over run directories: watch runs, compare them, ask a model.

run.py          `cleangpt ui`: opens the address
app.py          the routes
live.py         the runs as rows of a table, and which of them changed
looking.py      one run: configuration, log, samples, scores, pictures, commands
drawing.py      curves, and bands of seeds
comparing.py    what reports say, as data
asking.py       requests: which there are, and the bounds of what they say
models.py       models that are open, each in a process of its own
static/         the page itself: plain modules, no build step
"""

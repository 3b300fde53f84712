"""A trained model behind an address, for programs: what OpenAI's clients send, and what they expect back.

run.py           `cleangpt serve`: opens the model, then the address
app.py           the routes, and what is refused before it gets to one
guard.py         who may ask: names of hosts, origins, tokens, sizes
completions.py   requests and answers in OpenAI's form
engine.py        the model's process, seen from the server: one request after the other, those that wait, those given up
worker.py        the model's process, seen from inside
"""

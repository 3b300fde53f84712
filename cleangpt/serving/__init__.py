"""Trained models behind an address: what OpenAI's clients and our own page send, and what they get back.

run.py           `cleangpt serve`: opens the model, then the address
address.py       where a server listens, and until when
app.py           the routes in OpenAI's form
guard.py         who may ask: names of hosts, origins, tokens, sizes
completions.py   requests and answers in OpenAI's form
engine.py        the model's process, seen from the server: one request after the other, those that wait, those given up
worker.py        the model's process, seen from inside
model.py         the model in it: how it reads, and what its tokens are called
writing.py       what it does for a program: completions
speaking.py      what it does for a page: a text with all choices, and answers to held-out problems
"""

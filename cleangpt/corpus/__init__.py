"""Text of any size, read, prepared and stored as tokens.

settings.py  the keys of data that is prepared
kinds.py     what a file holds: text, packed text, or something else with a way out
sources.py   documents from files, JSON lines, parquet, an address or Hugging Face
prepare.py   text to token files, in pieces and in parallel
store.py     token files, and the folder that they lie in
report.py    what data/prepare.py shows
"""

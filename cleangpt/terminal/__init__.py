"""The terminal: progress, tables, streams that may close.

patience.py   what takes long says what it is doing
console.py    rich's console, on which text of somebody else steers nothing
narrow.py     tables and lines that fit a narrow terminal
streams.py    standard output and error for readers that leave and disks that are full
"""

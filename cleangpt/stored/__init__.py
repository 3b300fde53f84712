"""Tensors in files, whole or in pieces. Nothing in these is code.

tensorfile.py   one safetensors file: written, opened, refused
pieces.py       tensors of one file or of several, read row by row
"""

"""Numpy arrays in, numbers out: no torch, no files, no plots."""

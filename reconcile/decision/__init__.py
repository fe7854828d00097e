"""Decides what a run changes, and what it may not change. Pure: values in, values out."""

"""Reads of the outside world into the panel's memory. No record is touched."""

"""Reads the sources into the panel's store. It changes no record."""

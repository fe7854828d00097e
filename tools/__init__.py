"""What only developers run: checks of the repository and of what it is built from."""

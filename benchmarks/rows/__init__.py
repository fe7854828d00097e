"""One module for each group of rows of the table."""

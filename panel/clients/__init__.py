"""Customers who use the pages: who is signed in, by which link, and whose records changed."""

"""Customers: their reads, who is signed in to the pages, by which link, and whose records changed."""

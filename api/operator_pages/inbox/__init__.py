"""The adoption inbox: guests that nobody ordered, orders without a guest, and what operators adopted."""

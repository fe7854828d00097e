"""The SQL of a batch of sync calls: locks, reads, and the one statement that writes."""

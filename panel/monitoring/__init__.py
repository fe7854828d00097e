"""What the processes count, and the text that Prometheus reads."""

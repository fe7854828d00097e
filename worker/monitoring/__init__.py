"""What is counted and traced of tasks."""

"""What somebody would write by hand with well-known parts, each as its documentation shows it."""

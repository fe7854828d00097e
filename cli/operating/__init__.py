"""What operators ask and decide by command line."""

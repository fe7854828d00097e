"""What is to be changed and whether it may be. Pure: values in, values out."""

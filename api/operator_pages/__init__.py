"""The pages for operators at `/ops`: what is wrong, why, and what to do about it. HTML that needs no JavaScript."""

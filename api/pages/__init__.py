"""The pages for customers: sign-in, their VPS, and what changed. HTML that works without JavaScript."""

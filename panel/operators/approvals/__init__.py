"""Whose approvals count, and which held items they release."""

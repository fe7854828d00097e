"""How commands print: consoles, lists, plans and progress."""

"""Power actions of customers, as they are stored: what was asked for, how far it has come, and what it may rest on."""

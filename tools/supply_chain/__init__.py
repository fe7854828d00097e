"""What the panel is built from: known vulnerabilities of it, and the bill of materials. Standard library only."""

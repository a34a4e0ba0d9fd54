"""The fit loop, what it reads from, and what it reports to."""

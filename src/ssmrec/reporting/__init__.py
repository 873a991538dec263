"""For people: progress, tables."""

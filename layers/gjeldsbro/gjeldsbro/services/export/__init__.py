"""The quarterly export: lists are read, packages built, and then delivered (design decisions 11 and 12)."""

"""Classification: a label is one of a few classes."""

"""Where labelled images come from: one section and one module a source, and what all share."""

"""Sources of labelled images, one section and one module each, and the code they share."""

"""What frozen prefixes make of images: read, kept where it pays, stored."""

"""Networks as torch.fx graphs with what is known of their nodes, and how they travel."""

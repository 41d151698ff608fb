"""Networks as torch.fx graphs with facts about their nodes, and their serialization."""

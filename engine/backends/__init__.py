"""What runs a network: eager torch, or something faster that gives the same picture."""

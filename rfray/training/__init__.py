"""Training, evaluating and pruning a network: what several stages share."""

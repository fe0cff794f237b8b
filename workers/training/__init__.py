"""Training: many networks in one pass, epoch by epoch, and the one curve of each trial."""

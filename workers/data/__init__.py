"""The data of a trial: read the blob, split it, preprocess inside each split, make tensors."""

"""A service that finds the best neural network for somebody's data."""

__version__ = "0.1.0"

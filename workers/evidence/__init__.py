"""What can be said of scores, choices and differences, and how surely."""

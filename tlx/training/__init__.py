"""What happens between two steps, and what is watched meanwhile."""

"""What a run will do, and what cannot work, said before its first step."""

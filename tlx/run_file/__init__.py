"""What a run file may say, and what it means."""

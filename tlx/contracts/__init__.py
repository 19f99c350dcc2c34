"""What the parts of a run promise each other, and how their options and words are read."""

"""What a step is fed: batches, or what the frozen part of a network said of them."""

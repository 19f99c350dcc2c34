"""Numbers of trained models, from files into leaves and back."""

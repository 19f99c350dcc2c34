"""From stored pictures to splits of them, and what may be wrong with them."""

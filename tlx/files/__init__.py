"""Files as they lie on a disk: whole or refused, with digests, within bounds."""

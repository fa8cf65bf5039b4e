"""Private and public keys, certificates, and their file formats."""

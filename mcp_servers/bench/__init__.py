"""The speed of serving, for `make bench`."""

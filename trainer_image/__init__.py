"""The trainer image: what it is built from, and how `make image` builds it into an environment's repository."""

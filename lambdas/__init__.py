"""Lambda handlers: event in, adapters bound, control called."""

"""What separately deployed programs agree on."""

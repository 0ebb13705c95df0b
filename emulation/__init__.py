"""AWS on one machine: the synthesized templates, real job processes and a spot market."""

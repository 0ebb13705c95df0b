"""What EC2 asks for its machines, and what they are: a port, the snapshot that ships, and AWS itself."""

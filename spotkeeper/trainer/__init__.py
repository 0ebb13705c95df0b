"""What training code uses, and the image's entry point."""

"""The control plane's adapters, one AWS service a file."""

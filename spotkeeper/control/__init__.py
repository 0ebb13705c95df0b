"""The control plane: plain functions over small ports; `aws` holds one adapter a service."""

"""The CDK stacks and their settings."""

"""SageMaker training jobs on one machine."""

"""EventBridge, SQS and Lambda: from an event to the shipped handler."""

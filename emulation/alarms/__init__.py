"""CloudWatch alarms: what functions log becomes metric data, and the synthesized alarms are evaluated on it."""

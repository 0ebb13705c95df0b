"""EC2: a market of spot and on-demand capacity, and the metadata service of each instance."""

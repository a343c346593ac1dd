"""The party process: one public port, jobs, sessions."""

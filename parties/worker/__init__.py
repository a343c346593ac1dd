"""The worker process: one session, no network, no key."""

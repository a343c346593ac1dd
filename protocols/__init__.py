"""What the parties compute: values in, values out; no I/O, no clock, no randomness of its own."""

# Part of every handshake and plan; grows when parties of the old and new version could not run a session together.
PROTOCOL_VERSION = "1"

"""What auditors get: the export of a log, and the stand-alone program that verifies one."""

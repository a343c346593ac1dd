"""Consent: agreements of a consortium, owners' grants, their ends, and whether they cover a job."""

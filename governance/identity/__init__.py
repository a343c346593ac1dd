"""Who is who: certificates, enrolment requests, the signed directory of the consortium."""

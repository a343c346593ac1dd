"""What a private training gives and costs: which accountant belongs to which sampler, and what follows for a job."""

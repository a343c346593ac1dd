"""What joining a private training gains over staying alone, estimated before anybody is asked."""

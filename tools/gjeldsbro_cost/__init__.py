"""What a night and an export take of AWS, in requests, seconds and euro, for any number of customers."""

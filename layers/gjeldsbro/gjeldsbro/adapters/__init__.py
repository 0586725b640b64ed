"""What talks to the outside: DynamoDB, S3, Secrets Manager, HTTPS and SFTP."""

"""The local stack: AWS played by ministack, API Gateway with mutual TLS by a gateway, receivers by OpenSSH."""

"""What people see when a test has failed."""

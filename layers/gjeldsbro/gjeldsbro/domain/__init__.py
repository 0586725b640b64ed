"""The rules, as pure functions and values: no AWS, no network, no clock of their own."""

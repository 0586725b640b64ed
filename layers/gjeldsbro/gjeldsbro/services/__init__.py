"""The use cases: each module is one thing that a function or an operator asks for."""

"""The HTTP side: who calls, which route, and what every answer looks like."""

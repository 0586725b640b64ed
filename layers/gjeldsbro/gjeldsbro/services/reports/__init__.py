"""What a run tells people: its report, and the notification that links to it (decision record 0024)."""

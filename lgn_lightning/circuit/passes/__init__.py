"""What makes netlists smaller and orders them, without changing what they compute."""

"""What every room stands on: errors, files, native builds and the machine; imports nothing above it."""

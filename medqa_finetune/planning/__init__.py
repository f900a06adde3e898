"""What a matrix will take, estimated before it starts: time, memory, disk and money."""

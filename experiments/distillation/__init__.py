"""Studies of dataset distillation with soft labels: HeLlO's projectors against stored labels."""
